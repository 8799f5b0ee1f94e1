// Range:  y_i = start + i * step, in double precision, then stored; Fill is step 0. Bytes n * size.
#pragma once

#include "runtime/device.h"

namespace eq {

struct RangeArgs {
  void* y;
  DType type;
  std::int64_t n;
  double start, step;
};
/// Implemented by each device.
void range_launch(Device& device, const OpInfo& info, const RangeArgs& args);

inline Tensor range(Device& device, const char* op, DType type, const Shape& shape, double start, double step) {
  check_type(type != DType::F16, op, ": no tensor is stored as f16");
  Tensor y = device.empty(type, shape);
  range_launch(device, {op, {shape}, 0, static_cast<double>(y.bytes())}, {y.data(), type, y.numel(), start, step});
  return y;
}
inline Tensor fill(Device& device, DType type, const Shape& shape, double value) {
  return range(device, "Fill", type, shape, value, 0);
}

}  // namespace eq
