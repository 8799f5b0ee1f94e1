// Elementary functions on vectors of floats, to within about 2 ulp, with exact NaN, infinity and signed zero
// behaviour. Polynomials: S. Moshier's single-precision Cephes (exp, log, tanh); erf was fitted for this file.
#pragma once

#include "kernels/simd.h"

namespace eq::EQ_ISA {

EQ_INLINE vf vabs(vf x) { return as<vf>(as<vi>(x) & 0x7fffffff); }
EQ_INLINE vf with_sign_of(vf magnitude, vf sign) {
  return as<vf>((as<vu>(magnitude) & 0x7fffffffu) | (as<vu>(sign) & 0x80000000u));
}

/// e^x. Below -103.98 it is 0, above 88.73 infinity; subnormal results are rounded once.
EQ_INLINE vf vexp(vf x) {
  // Comparisons with NaN are false: NaN passes both clamps.
  x = x > 89.0f ? vf{} + 89.0f : x;
  x = x < -104.5f ? vf{} - 104.5f : x;
  const vf n = vround_small(x * 1.44269504088896341f);
  const vf r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  vf p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  // 2^n as two factors: n reaches -151 and +128, beyond the exponents of normal numbers.
  const vi k = __builtin_convertvector(n == n ? n : vf{}, vi);
  const vi half = k >> 1;
  return p * as<vf>((half + 127) << 23) * as<vf>((k - half + 127) << 23);
}

/// Natural logarithm. log(0) = -infinity, log(x < 0) = NaN.
EQ_INLINE vf vlog(vf x) {
  const vi subnormal = (x < 1.17549435e-38f) & (x > 0.0f);
  const vf scaled = subnormal ? x * 33554432.0f : x;
  const vi bits = as<vi>(scaled) & 0x7fffffff;  // negative numbers give NaN below, whatever comes out here
  const vi exponent = (bits - 0x3f3504f3) >> 23;
  const vf f = as<vf>(bits - (exponent << 23)) - 1.0f;
  const vf e = __builtin_convertvector(exponent - (subnormal & 25), vf);
  const vf z = f * f;
  vf p = f * 7.0376836292e-2f - 1.1514610310e-1f;
  p = p * f + 1.1676998740e-1f;
  p = p * f - 1.2420140846e-1f;
  p = p * f + 1.4249322787e-1f;
  p = p * f - 1.6668057665e-1f;
  p = p * f + 2.0000714765e-1f;
  p = p * f - 2.4999993993e-1f;
  p = p * f + 3.3333331174e-1f;
  vf y = p * f * z + e * -2.12194440e-4f - z * 0.5f;
  y = f + y + e * 0.693359375f;
  const float inf = __builtin_inff();
  y = x == 0.0f ? vf{} - inf : y;
  y = x == inf ? x : y;
  return (x < 0.0f) | (x != x) ? vf{} + __builtin_nanf("") : y;
}

/// log(1 + x), accurate near 0 (Kahan's correction of the rounding of 1 + x).
EQ_INLINE vf vlog1p(vf x) {
  const vf u = x + 1.0f;
  const vf d = u - 1.0f;
  const vf y = vlog(u) * (x / d);
  return (d == 0.0f) | (x == __builtin_inff()) ? x : y;
}

EQ_INLINE vf vsigmoid(vf x) {
  const vf e = vexp(-vabs(x));
  const vf y = (x < 0.0f ? e : vf{} + 1.0f) / (1.0f + e);
  return x == x ? y : x;
}

EQ_INLINE vf vtanh(vf x) {
  const vf a = vabs(x), z = x * x;
  vf p = z * -5.70498872745e-3f + 2.06390887954e-2f;
  p = p * z - 5.37397155531e-2f;
  p = p * z + 1.33314422036e-1f;
  p = p * z - 3.33332819422e-1f;
  const vf small = p * z * x + x;
  const vf large = with_sign_of(1.0f - 2.0f / (vexp(a + a) + 1.0f), x);
  return a < 0.625f ? small : x == x ? large : x;
}

/// log(1 + e^x).
EQ_INLINE vf vsoftplus(vf x) { return (x > 0.0f ? x : vf{}) + vlog1p(vexp(-vabs(x))); }

/// Gauss error function: x P(x^2) near 0, 1 - e^(-x Q(x)) beyond.
EQ_INLINE vf verf(vf x) {
  const vf z = x * x, a = vabs(x);
  vf p = z * 8.311534169e-5f - 8.128638503e-4f;
  p = p * z + 5.199771235e-3f;
  p = p * z - 2.685887978e-2f;
  p = p * z + 1.128368591e-1f;
  p = p * z - 3.761263309e-1f;
  p = p * z + 1.283791671e-1f;
  const vf small = x * p + x;
  const vf t = a > 4.0f ? vf{} + 4.0f : a;  // erf(4) is 1 in single precision
  vf q = t * 1.152276381e-5f - 3.256572793e-4f;
  q = q * t + 3.653781967e-3f;
  q = q * t - 2.378538337e-2f;
  q = q * t + 1.062631862e-1f;
  q = q * t + 6.351358890e-1f;
  q = q * t + 1.128652168f;
  const vf large = with_sign_of(1.0f - vexp(-q * t), x);
  return a < 0.92f ? small : x == x ? large : x;
}

}  // namespace eq::EQ_ISA
