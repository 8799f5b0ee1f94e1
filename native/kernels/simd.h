// Vectors of EQ_SIMD_BYTES bytes in the GCC/Clang vector extension: one source for every instruction set.
// Include it in cpu.cc files only; everything lives in the instruction set's namespace (see isa.h for why).
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/isa.h"
#include "runtime/dtype.h"
#if EQ_SIMD_BYTES == 64
#include <immintrin.h>
#endif

#define EQ_INLINE [[gnu::always_inline]] static inline

namespace eq::EQ_ISA {

typedef float vf __attribute__((vector_size(EQ_SIMD_BYTES)));
typedef std::int32_t vi __attribute__((vector_size(EQ_SIMD_BYTES)));
typedef std::uint32_t vu __attribute__((vector_size(EQ_SIMD_BYTES)));
typedef double vd __attribute__((vector_size(EQ_SIMD_BYTES)));
/// As many floats or integers as `vd` has doubles, and as many halfwords as `vf` has floats.
typedef float vf_half __attribute__((vector_size(EQ_SIMD_BYTES / 2)));
typedef std::int32_t vi_half __attribute__((vector_size(EQ_SIMD_BYTES / 2)));
typedef std::uint16_t vh __attribute__((vector_size(EQ_SIMD_BYTES / 2)));

/// Floats, and doubles, per vector.
constexpr int kLanes = EQ_SIMD_BYTES / 4;
constexpr int kDoubleLanes = EQ_SIMD_BYTES / 8;

EQ_INLINE vf splat(float x) { return vf{} + x; }

/// The bits of one vector as another.
template <class To, class From>
EQ_INLINE To as(From v) {
  static_assert(sizeof(To) == sizeof(From));
  return reinterpret_cast<To>(v);
}

/// Any vector from unaligned memory.
template <class V>
EQ_INLINE V load(const void* p) {
  V v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
template <class V>
EQ_INLINE void store(void* p, V v) {
  std::memcpy(p, &v, sizeof v);
}
#if EQ_SIMD_BYTES == 64
/// For the intrinsics' masked forms: GCC 12 warns of the undefined value that the plain ones start from.
constexpr __mmask16 kAllLanes = 0xffff;
#endif

/// Halfwords in lanes of 32 bits, and back without the upper halves. GCC 12 converts 16 lanes in two parts.
EQ_INLINE vu widen_halves(vh x) {
#if EQ_SIMD_BYTES == 64
  return reinterpret_cast<vu>(_mm512_maskz_cvtepu16_epi32(kAllLanes, reinterpret_cast<__m256i>(x)));
#else
  return __builtin_convertvector(x, vu);
#endif
}
EQ_INLINE vh narrow_halves(vu x) {
#if EQ_SIMD_BYTES == 64
  return reinterpret_cast<vh>(_mm512_maskz_cvtepi32_epi16(kAllLanes, reinterpret_cast<__m512i>(x)));
#else
  return __builtin_convertvector(x, vh);
#endif
}

/// kLanes elements of a tensor, whatever its storage, as floats.
EQ_INLINE vf load(const float* p) { return load<vf>(p); }
EQ_INLINE vf load(const bf16* p) { return as<vf>(widen_halves(load<vh>(p)) << 16); }
EQ_INLINE void store(float* p, vf v) { store<vf>(p, v); }
/// Rounds to nearest, ties to even; NaN stays NaN.
EQ_INLINE void store(bf16* p, vf v) {
  const vu u = as<vu>(v);
  const vu rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  store<vh>(p, narrow_halves(v == v ? rounded : (u >> 16) | 0x40u));
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

/// a > b ? a : b, and a < b ? a : b: b where either is NaN. Left to itself GCC 12 compares and blends 16 lanes.
EQ_INLINE vf vmax(vf a, vf b) {
#if EQ_SIMD_BYTES == 64
  return _mm512_maskz_max_ps(kAllLanes, a, b);
#else
  return a > b ? a : b;
#endif
}
EQ_INLINE vf vmin(vf a, vf b) {
#if EQ_SIMD_BYTES == 64
  return _mm512_maskz_min_ps(kAllLanes, a, b);
#else
  return a < b ? a : b;
#endif
}
/// Nearest integer, ties to even; exact for |x| < 2^22.
EQ_INLINE vf vround_small(vf x) {
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

[[maybe_unused]] static void widen(const bf16* x, float* y, std::int64_t n) {
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(y + i, load(x + i));
  for (; i < n; ++i) y[i] = x[i];
}
[[maybe_unused]] static void narrow(const float* x, bf16* y, std::int64_t n) {
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(y + i, load(x + i));
  for (; i < n; ++i) y[i] = bf16(x[i]);
}

/// y_i = f(x_i) a vector at a time; the rest goes through a vector of which only a part is kept, so that an
/// element's value does not depend on its place.
template <class F>
EQ_INLINE void map_vectors(const float* x, float* y, std::int64_t n, F f) {
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(y + i, f(load(x + i)));
  if (i < n) {
    vf rest{};
    std::memcpy(&rest, x + i, static_cast<std::size_t>(n - i) * sizeof(float));
    rest = f(rest);
    std::memcpy(y + i, &rest, static_cast<std::size_t>(n - i) * sizeof(float));
  }
}

}  // namespace eq::EQ_ISA
