// The activations and their derivatives on vectors. Include it in cpu.cc files only.
#pragma once

#include "kernels/math.h"

namespace eq::EQ_ISA {

/// The distribution function of the standard normal.
EQ_INLINE vf normal_cdf(vf x) { return 0.5f * (1.0f + verf(x * 0.70710678118654752f)); }
/// Its density.
EQ_INLINE vf normal_density(vf x) { return 0.39894228040143268f * vexp(-0.5f * x * x); }

EQ_INLINE vf gelu(vf x) { return x * normal_cdf(x); }
EQ_INLINE vf gelu_derivative(vf x) { return normal_cdf(x) + x * normal_density(x); }

/// x s(a x): SiLU with a = 1, QuickGELU with a = 1.702.
EQ_INLINE vf swish(vf x, float a) { return x * vsigmoid(a * x); }
EQ_INLINE vf swish_derivative(vf x, float a) {
  const vf s = vsigmoid(a * x);
  return s * (1.0f + a * x * (1.0f - s));
}

constexpr float kQuickGelu = 1.702f;

}  // namespace eq::EQ_ISA
