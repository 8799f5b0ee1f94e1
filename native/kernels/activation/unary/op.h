// Activations and their gradients, elementwise:  y = f(x),  dx = dy f'(x).
//
//   silu        f = x s(x)             f' = s (1 + x (1 - s))                    s = sigmoid
//   quick_gelu  f = x s(1.702 x)       f' = s (1 + 1.702 x (1 - s))
//   gelu        f = x F(x)             f' = F(x) + x exp(-x^2 / 2) / sqrt(2 pi)  F = (1 + erf(x / sqrt 2)) / 2
//
// Any shape; results are stored like x. From bf16 to bf16 f has an error of up to 4e-4 of its value before that is
// rounded (by up to 4e-3), and values of less than 2e-7 may be 0. Bytes: x (and dy) read, result written; FLOPs: about
// 20 n (an exponential or an error function each), so memory-bound on several cores.
#pragma once

#include "runtime/device.h"

namespace eq {

enum class Activation : std::uint8_t { Silu = 0, Gelu = 1, QuickGelu = 2 };

struct ActivationArgs {
  const void* x;
  /// Null for the forward pass.
  const void* dy;
  void* out;
  DType x_type, dy_type, out_type;
  std::int64_t n;
  Activation kind;
};
void activation_launch(Device& device, const OpInfo& info, const ActivationArgs& args);

inline const char* activation_name(Activation kind, bool grad) {
  switch (kind) {
    case Activation::Silu:
      return grad ? "SiluGrad" : "Silu";
    case Activation::Gelu:
      return grad ? "GeluGrad" : "Gelu";
    case Activation::QuickGelu:
      return grad ? "QuickGeluGrad" : "QuickGelu";
  }
  return "?";
}

inline void check_float(const char* op, const char* name, const Tensor& t) {
  check_type(t.dtype == DType::F32 || t.dtype == DType::BF16, op, ": ", name, " must be float32, got ",
             dtype_name(t.dtype));
}

/// f(x), or dy f'(x) where `dy` is not empty.
inline Tensor activation(Device& device, Activation kind, const Tensor& x, const Tensor& dy = {}) {
  const bool grad = static_cast<bool>(dy);
  const char* op = activation_name(kind, grad);
  check_float(op, "x", x);
  if (grad) {
    check_float(op, "dy", dy);
    check_range(dy.numel() == x.numel(), op, ": dy ", dy.shape.str(), " does not fit x ", x.shape.str());
  }
  Tensor out = device.empty(x.dtype, x.shape);
  const double bytes = static_cast<double>(2 * x.bytes() + (grad ? dy.bytes() : 0));
  activation_launch(device, {op, {x.shape}, 20.0 * static_cast<double>(x.numel()), bytes},
                    {x.data(), grad ? dy.data() : nullptr, out.data(), x.dtype, grad ? dy.dtype : x.dtype, out.dtype,
                     x.numel(), kind});
  return out;
}

}  // namespace eq
