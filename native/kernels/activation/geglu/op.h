// GEGLU:  x [R, 2C] = [value | gate];  y = value gelu(gate)  [R, C], gelu exact.
// Backward:  dvalue = dy gelu(gate);  dgate = dy value gelu'(gate);  dx = [dvalue | dgate].
//
// Results are stored like x. Bytes: 3 R C elements forward, 5 R C backward; FLOPs: about 25 R C and 45 R C.
#pragma once

#include "kernels/activation/unary/op.h"

namespace eq {

struct GegluArgs {
  const void* x;
  /// Null for the forward pass.
  const void* dy;
  void* out;
  DType x_type, dy_type, out_type;
  std::int64_t rows, channels;
};
void geglu_launch(Device& device, const OpInfo& info, const GegluArgs& args);

/// The result for `x` of last size 2C; the gradient where `dy` (last size C) is not empty.
inline Tensor geglu(Device& device, const Tensor& x, const Tensor& dy = {}) {
  const bool grad = static_cast<bool>(dy);
  const char* op = grad ? "GegluGrad" : "Geglu";
  check_float(op, "x", x);
  check_type(x.shape.rank() >= 1, op, ": x must have at least one axis");
  const std::int64_t width = x.shape.at(-1);
  check_range(width % 2 == 0, op, ": x must have an even number of channels, got ", x.shape.str());
  const std::int64_t channels = width / 2, rows = width == 0 ? 0 : x.numel() / width;
  Shape half = x.shape;
  if (grad) {
    check_float(op, "dy", dy);
    check_range(dy.numel() == rows * channels, op, ": dy ", dy.shape.str(), " does not fit x ", x.shape.str());
  } else {
    std::int64_t dims[Shape::kMaxRank];
    std::copy(x.shape.begin(), x.shape.end(), dims);
    dims[x.shape.rank() - 1] = channels;
    half = Shape(dims, x.shape.rank());
  }
  Tensor out = device.empty(x.dtype, half);
  const double bytes = static_cast<double>(x.bytes() + out.bytes() + (grad ? dy.bytes() : 0));
  const double flops = (grad ? 45.0 : 25.0) * static_cast<double>(rows * channels);
  geglu_launch(device, {op, {x.shape}, flops, bytes},
               {x.data(), grad ? dy.data() : nullptr, out.data(), x.dtype, grad ? dy.dtype : x.dtype, out.dtype, rows,
                channels});
  return out;
}

}  // namespace eq
