// Cast:  y_i = x_i in another storage type. Bytes n * (size of x + size of y).
// float -> i32 truncates; NaN and infinities give 0 and large values wrap modulo 2^32 (an Int32Array's conversion).
// anything -> bool: different from 0, so NaN is true. f32 -> bf16 rounds to nearest even.
#pragma once

#include "runtime/device.h"

namespace eq {

struct CastArgs {
  const void* x;
  void* y;
  DType x_type, y_type;
  std::int64_t n;
};
/// Implemented by each device.
void cast_launch(Device& device, const OpInfo& info, const CastArgs& args);

/// Shares the memory when the type is right already.
inline Tensor cast(Device& device, const Tensor& x, DType type) {
  check_type(type != DType::F16, "Cast: no tensor is stored as f16");
  if (x.dtype == type) return x;
  Tensor y = device.empty(type, x.shape);
  cast_launch(device, {"Cast", {x.shape}, 0, static_cast<double>(x.bytes() + y.bytes())},
              {x.data(), y.data(), x.dtype, type, x.numel()});
  return y;
}

}  // namespace eq
