// Cumsum, Cumprod along the middle of [outer, length, inner], optionally exclusive and from the end.
// Running values are kept in double precision. Floats -> f32, i32 and bool -> i32. Bytes 2n * size.
#pragma once

#include "runtime/device.h"

namespace eq {

struct ScanArgs {
  const void* x;
  void* y;
  DType x_type, y_type;
  bool product, exclusive, reverse;
  std::int64_t outer, length, inner;
};
/// Implemented by each device.
void scan_launch(Device& device, const OpInfo& info, const ScanArgs& args);

inline Tensor scan(Device& device, bool product, const Tensor& x, std::int64_t outer, std::int64_t length,
                   std::int64_t inner, bool exclusive, bool reverse) {
  const char* name = product ? "Cumprod" : "Cumsum";
  check_range(Shape({outer, length, inner}).numel() == x.numel(), name, ": [", outer, ",", length, ",", inner,
              "] does not have the ", x.numel(), " elements of x");
  Tensor y = device.empty(is_float(x.dtype) ? DType::F32 : DType::I32, {outer, length, inner});
  scan_launch(device, {name, {x.shape}, static_cast<double>(x.numel()), static_cast<double>(x.bytes() + y.bytes())},
              {x.data(), y.data(), x.dtype, y.dtype, product, exclusive, reverse, outer, length, inner});
  return y;
}

}  // namespace eq
