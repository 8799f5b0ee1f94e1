// ArgMax, ArgMin over the middle of [outer, reduced, inner]:  y[o, i] = the first r with the greatest (least) x[o, r,
// i]. NaN never beats a number, but is kept when it comes first. y: i32. Bytes n * size: memory-bound.
#pragma once

#include "runtime/device.h"

namespace eq {

struct ArgReduceArgs {
  const void* x;
  void* y;
  DType x_type;
  bool least;
  std::int64_t outer, reduced, inner;
};
/// Implemented by each device.
void arg_reduce_launch(Device& device, const OpInfo& info, const ArgReduceArgs& args);

inline Tensor arg_reduce(Device& device, bool least, const Tensor& x, std::int64_t outer, std::int64_t reduced,
                         std::int64_t inner) {
  const char* name = least ? "ArgMin" : "ArgMax";
  check_range(Shape({outer, reduced, inner}).numel() == x.numel(), name, ": [", outer, ",", reduced, ",", inner,
              "] does not have the ", x.numel(), " elements of x");
  Tensor y = device.empty(DType::I32, {outer, inner});
  arg_reduce_launch(device,
                    {name, {x.shape}, static_cast<double>(x.numel()), static_cast<double>(x.bytes() + y.bytes())},
                    {x.data(), y.data(), x.dtype, least, outer, reduced, inner});
  return y;
}

}  // namespace eq
