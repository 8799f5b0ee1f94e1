// The activations and their derivatives on vectors. Include it in cpu.cc files only.
#pragma once

#include "kernels/math.h"

namespace eq::EQ_ISA {

/// e^x for x in [-87, 87], where 2^n needs no care; arguments outside are taken as the nearer end. NaN stays NaN.
EQ_INLINE vf exp_bounded(vf x) {
  x = x > 87.0f ? vf{} + 87.0f : x;
  x = x < -87.0f ? vf{} - 87.0f : x;
  // Adding 1.5 * 2^23 rounds to a whole number.
  const vf n = (x * 1.44269504088896341f + 12582912.0f) - 12582912.0f;
  const vf r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  vf p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  const vi k = __builtin_convertvector(n == n ? n : vf{}, vi);
  return p * as<vf>((k + 127) << 23);
}

/// The distribution function F of the standard normal, to about 5e-8: F(-a) = exp(-a R(a)) / 2 with R fitted on
/// [0, 5.5]; beyond, R is constant and F(-a) < 2e-8 goes on falling.
EQ_INLINE vf normal_cdf(vf x) {
  const vf a = vabs(x), t = a > 5.5f ? vf{} + 5.5f : a;
  vf r = t * 8.989072171061707e-07f - 1.4978087165218312e-05f;
  r = r * t + 7.406587974401191e-05f;
  r = r * t + 2.162912569474429e-04f;
  r = r * t - 5.036345217376947e-03f;
  r = r * t + 3.6470185965299606e-02f;
  r = r * t + 3.18276971578598e-01f;
  r = r * t + 7.978872060775757e-01f;
  const vf tail = 0.5f * exp_bounded(-a * r);
  return x > 0.0f ? 1.0f - tail : tail;
}
/// Its density.
EQ_INLINE vf normal_density(vf x) { return 0.39894228040143268f * exp_bounded(-0.5f * x * x); }

/// F for results that are rounded to bf16: relative error below 4e-4 (bf16 rounds by 2e-3), 0 below 1e-37. In powers of
/// two, F(-a) = 2^(-1 - a Q(a)) with Q fitted on [0, 5.5].
EQ_INLINE vf normal_cdf_coarse(vf x) {
  const vf a = vabs(x), t = a > 5.5f ? vf{} + 5.5f : a;
  vf q = t * 2.4118319e-4f - 4.9881069e-3f;
  q = q * t + 4.5238089e-2f;
  q = q * t + 4.6818227e-1f;
  q = q * t + 1.1476749f;
  const vf y = -1.0f - a * q;
  // Adding 1.5 * 2^23 leaves the nearest whole number in the low bits.
  const vf shifted = y + 12582912.0f;
  const vf f = y - (shifted - 12582912.0f);
  vf p = f * 5.5171240e-2f + 2.4261144e-1f;
  p = p * f + 6.9326109e-1f;
  p = p * f + 9.9992806e-1f;
  const vf scaled = as<vf>(as<vi>(p) + (as<vi>(shifted) << 23));
  const vf tail = y < -124.0f ? vf{} : scaled;
  return x > 0.0f ? 1.0f - tail : tail;
}

EQ_INLINE vf gelu(vf x) { return x * normal_cdf(x); }
EQ_INLINE vf gelu_coarse(vf x) { return x * normal_cdf_coarse(x); }
EQ_INLINE vf gelu_derivative(vf x) { return normal_cdf(x) + x * normal_density(x); }

/// x s(a x): SiLU with a = 1, QuickGELU with a = 1.702.
EQ_INLINE vf swish(vf x, float a) { return x / (1.0f + exp_bounded(-a * x)); }
EQ_INLINE vf swish_derivative(vf x, float a) {
  const vf s = 1.0f / (1.0f + exp_bounded(-a * x));
  return s * (1.0f + a * x * (1.0f - s));
}

constexpr float kQuickGelu = 1.702f;

}  // namespace eq::EQ_ISA
