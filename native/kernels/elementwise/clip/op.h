// ClipByValue:  y_i = min(max(x_i, low), high);  NaN stays NaN.
// x, y: any shape, same storage type. FLOPs 2n, bytes 2n * size: memory-bound.
#pragma once

#include "runtime/device.h"

namespace eq {

struct ClipArgs {
  const void* x;
  void* y;
  DType dtype;
  std::int64_t n;
  float low, high;
};
/// Implemented by each device.
void clip_launch(Device& device, const OpInfo& info, const ClipArgs& args);

inline Tensor clip(Device& device, const Tensor& x, float low, float high) {
  check_type(is_float(x.dtype) || x.dtype == DType::I32, "ClipByValue: x must be float32 or int32, got ",
             dtype_name(x.dtype));
  check_range(low <= high, "ClipByValue: low ", low, " is above high ", high);
  Tensor y = device.empty(x.dtype, x.shape);
  const auto n = static_cast<double>(x.numel());
  clip_launch(device, {"ClipByValue", {x.shape}, 2 * n, 2 * static_cast<double>(x.bytes())},
              {x.data(), y.data(), x.dtype, x.numel(), low, high});
  return y;
}

}  // namespace eq
