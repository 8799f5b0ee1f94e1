// The activations and their derivatives on vectors. Include it in cpu.cc files only.
#pragma once

#include "kernels/math.h"

namespace eq::EQ_ISA {

/// e^x for x <= 87; 0 below -104 at the latest. NaN stays NaN.
EQ_INLINE vf exp_bounded(vf x) {
#if EQ_SIMD_BYTES == 64
  // n is a multiple of 1/16: its fraction indexes a table, and three terms do for |r| <= log(2) / 32.
  x = vmax(splat(-200.0f), x);
  const vf powers{1.0f,         1.044273782f, 1.090507733f, 1.138788635f, 1.189207115f, 1.241857812f,
                  1.296839555f, 1.354255547f, 1.414213562f, 1.476826146f, 1.542210825f, 1.610490332f,
                  1.681792831f, 1.756252160f, 1.834008086f, 1.915206561f};
  const vf shifted = x * 1.44269504088896341f + 786432.0f;  // 1.5 * 2^19 leaves four bits of the fraction
  const vf n = shifted - 786432.0f;
  const vf r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  const vf power = _mm512_maskz_permutexvar_ps(kAllLanes, reinterpret_cast<__m512i>(shifted), powers);
  const vf p = (r * 0.16666667f + 0.5f) * r + 1.0f;
  return _mm512_maskz_scalef_ps(kAllLanes, power + power * r * p, n);
#else
  // Adding 1.5 * 2^23 rounds to a whole number.
  const vi vanishes = x < -87.0f;
  x = vmax(splat(-87.0f), x);
  const vf n = (x * 1.44269504088896341f + 12582912.0f) - 12582912.0f;
  const vf r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  vf p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  const vi k = __builtin_convertvector(n == n ? n : vf{}, vi);
  return vanishes ? vf{} : p * as<vf>((k + 127) << 23);
#endif
}

/// 2^x for x < 127, where the result is rounded to bf16: relative error below 8e-5; 0 from somewhere between 2^-126 and
/// 2^-150 on. NaN stays NaN.
EQ_INLINE vf exp2_coarse(vf x) {
#if EQ_SIMD_BYTES == 64
  const vf f = _mm512_maskz_reduce_ps(kAllLanes, x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);  // x - floor(x)
#else
  const vf shifted = (x - 0.5f) + 12582912.0f;
  const vf f = x - (shifted - 12582912.0f);
#endif
  vf p = f * 7.802452e-2f + 2.2606716e-1f;
  p = p * f + 6.9583354e-1f;
  p = p * f + 9.9992522e-1f;
#if EQ_SIMD_BYTES == 64
  return _mm512_maskz_scalef_ps(kAllLanes, p, x);  // p 2^floor(x)
#else
  return x < -126.0f ? vf{} : as<vf>(as<vi>(p) + (as<vi>(shifted) << 23));
#endif
}

/// 1 / x for normal x and 1 / x, to within about 1 ulp; coarse: to 2^-14. NaN stays NaN.
EQ_INLINE vf reciprocal_coarse(vf x) {
#if EQ_SIMD_BYTES == 64
  return _mm512_maskz_rcp14_ps(kAllLanes, x);
#else
  return 1.0f / x;
#endif
}
EQ_INLINE vf reciprocal(vf x) {
#if EQ_SIMD_BYTES == 64
  const vf y = _mm512_maskz_rcp14_ps(kAllLanes, x);
  return y + y * (1.0f - x * y);
#else
  return 1.0f / x;
#endif
}

/// The distribution function F of the standard normal, to about 5e-8: F(-a) = exp(-a R(a)) / 2 with R fitted on
/// [0, 5.5]; beyond, R is constant and F(-a) < 2e-8 goes on falling.
EQ_INLINE vf normal_cdf(vf x) {
  const vf a = vabs(x), t = vmin(splat(5.5f), a);
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

/// F for results that are rounded to bf16: relative error below 4e-4 (bf16 rounds by up to 4e-3), 0 below 1e-37. In
/// powers of two, F(-a) = 2^(-1 - a Q(a)) with Q fitted on [0, 5.5].
EQ_INLINE vf normal_cdf_coarse(vf x) {
  const vf a = vabs(x), t = vmin(splat(5.5f), a);
  vf q = t * 2.4118319e-4f - 4.9881069e-3f;
  q = q * t + 4.5238089e-2f;
  q = q * t + 4.6818227e-1f;
  q = q * t + 1.1476749f;
  const vf tail = exp2_coarse(-1.0f - a * q);
  return x > 0.0f ? 1.0f - tail : tail;
}

EQ_INLINE vf gelu(vf x) { return x * normal_cdf(x); }
EQ_INLINE vf gelu_coarse(vf x) { return x * normal_cdf_coarse(x); }
EQ_INLINE vf gelu_derivative(vf x) { return normal_cdf(x) + x * normal_density(x); }

/// x s(a x): SiLU with a = 1, QuickGELU with a = 1.702. Below a x = -87 it is no more than 2e-36 from 0, and its
/// derivative less than that from 0 and, above 87, from 1.
EQ_INLINE vf swish(vf x, float a) {
  x = vmax(splat(-87.0f / a), x);
  return x * reciprocal(1.0f + exp_bounded(-a * x));
}
EQ_INLINE vf swish_coarse(vf x, float a) {
  x = vmax(splat(-87.0f / a), x);
  return x * reciprocal_coarse(1.0f + exp2_coarse(-1.44269504088896341f * a * x));
}
EQ_INLINE vf swish_derivative(vf x, float a) {
  x = vmax(splat(-87.0f / a), vmin(splat(87.0f / a), x));
  const vf s = reciprocal(1.0f + exp_bounded(-a * x));
  return s * (1.0f + a * x * (1.0f - s));
}

constexpr float kQuickGelu = 1.702f;

}  // namespace eq::EQ_ISA
