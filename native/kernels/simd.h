// Vectors of EQ_SIMD_BYTES bytes through GCC's vector extension: one source for every instruction set.
// Everything lives in the instruction set's namespace (see isa.h for why).
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/isa.h"
#include "runtime/dtype.h"

namespace eq::EQ_ISA {

typedef float vf __attribute__((vector_size(EQ_SIMD_BYTES)));
typedef std::int32_t vi __attribute__((vector_size(EQ_SIMD_BYTES)));
typedef std::uint32_t vu __attribute__((vector_size(EQ_SIMD_BYTES)));
typedef std::uint16_t vh __attribute__((vector_size(EQ_SIMD_BYTES / 2)));
/// Floats per vector.
constexpr int kLanes = EQ_SIMD_BYTES / 4;

static inline vf splat(float x) { return vf{} + x; }
static inline vi splat_i(std::int32_t x) { return vi{} + x; }

static inline vf load(const float* p) {
  vf v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
static inline vf load(const bf16* p) {
  vh h;
  std::memcpy(&h, p, sizeof h);
  return (vf)(__builtin_convertvector(h, vu) << 16);
}
static inline void store(float* p, vf v) { std::memcpy(p, &v, sizeof v); }
/// Rounds to nearest, ties to even; NaN stays NaN.
static inline void store(bf16* p, vf v) {
  const vu u = (vu)v;
  const vu rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  const vu quiet = (u >> 16) | 0x40u;
  const vh h = __builtin_convertvector((u & 0x7fffffffu) > 0x7f800000u ? quiet : rounded, vh);
  std::memcpy(static_cast<void*>(p), &h, sizeof h);
}
/// The first n < kLanes elements; the others read as `fill`.
template <class T>
static inline vf load_part(const T* p, int n, float fill = 0.0f) {
  T tmp[kLanes];
  for (int i = 0; i < kLanes; ++i) tmp[i] = i < n ? p[i] : T(fill);
  return load(tmp);
}
template <class T>
static inline void store_part(T* p, vf v, int n) {
  T tmp[kLanes];
  store(tmp, v);
  std::memcpy(static_cast<void*>(p), tmp, static_cast<std::size_t>(n) * sizeof(T));
}

static inline vf vmax(vf a, vf b) { return a > b ? a : b; }
static inline vf vmin(vf a, vf b) { return a < b ? a : b; }
/// Nearest integer, ties to even; exact for |x| < 2^22.
static inline vf vround_small(vf x) {
  const vf magic = splat(12582912.0f);  // 1.5 * 2^23: adding it drops the fraction
  return (x + magic) - magic;
}

/// Sums in a fixed tree, so that results do not depend on how the compiler reduces.
static inline float hsum(vf v) {
  float t[kLanes];
  store(t, v);
  for (int w = kLanes / 2; w > 0; w /= 2)
    for (int i = 0; i < w; ++i) t[i] += t[i + w];
  return t[0];
}
static inline float hmax(vf v) {
  float t[kLanes];
  store(t, v);
  float m = t[0];
  for (int i = 1; i < kLanes; ++i) m = t[i] > m ? t[i] : m;
  return m;
}

/// e^x to about 1 ulp; underflows through subnormals to 0, overflows to infinity, keeps NaN.
/// Reduction x = n ln 2 + r, |r| <= ln 2 / 2, then a degree-6 polynomial for e^r (minimax on that interval).
static inline vf vexp(vf x) {
  const vf clamped = vmin(vmax(x, splat(-104.0f)), splat(89.0f));
  const vf n = vround_small(clamped * 1.44269504088896341f);
  vf r = clamped - n * 0.693359375f;
  r = r - n * -2.12194440e-4f;
  vf p = splat(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  // 2^n in two factors: n reaches -150, beyond what one exponent field holds.
  const vi ni = __builtin_convertvector(n, vi);
  const vi half = ni >> 1;
  const vf s1 = (vf)((half + 127) << 23), s2 = (vf)((ni - half + 127) << 23);
  return x == x ? p * s1 * s2 : x;
}

}  // namespace eq::EQ_ISA
