// Parts of vectors in memory: the first n < kLanes elements, never touching what lies beyond. One instruction on
// AVX-512, through a copy elsewhere.
#pragma once

#include "geometry.h"
#if EQ_SIMD_BYTES == 64
#include <immintrin.h>
#endif

namespace eq::EQ_ISA {

#if EQ_SIMD_BYTES == 64
EQ_INLINE __mmask16 first_lanes(std::int64_t n) { return static_cast<__mmask16>((1u << n) - 1u); }
EQ_INLINE vf read_part(const float* p, std::int64_t n) { return _mm512_maskz_loadu_ps(first_lanes(n), p); }
/// bf16 bits, zero-extended to 32-bit lanes.
EQ_INLINE vu read_halves(const bf16* p, std::int64_t n) {
  return widen_halves(reinterpret_cast<vh>(_mm256_maskz_loadu_epi16(first_lanes(n), p)));
}
EQ_INLINE void write_part(float* p, vf v, std::int64_t n) { _mm512_mask_storeu_ps(p, first_lanes(n), v); }
EQ_INLINE void write_halves(bf16* p, vh v, std::int64_t n) {
  _mm256_mask_storeu_epi16(p, first_lanes(n), reinterpret_cast<__m256i>(v));
}
#else
EQ_INLINE vf read_part(const float* p, std::int64_t n) {
  vf v{};
  for (std::int64_t i = 0; i < n; ++i) v[i] = p[i];
  return v;
}
EQ_INLINE vu read_halves(const bf16* p, std::int64_t n) {
  vu v{};
  for (std::int64_t i = 0; i < n; ++i) v[i] = p[i].bits;
  return v;
}
EQ_INLINE void write_part(float* p, vf v, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) p[i] = v[i];
}
EQ_INLINE void write_halves(bf16* p, vh v, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) p[i].bits = v[i];
}
#endif

/// kLanes floats rounded to bf16 (to nearest, ties to even; NaN stays NaN).
EQ_INLINE vh round_halves(vf v) {
#if defined(__AVX512BF16__)
  return reinterpret_cast<vh>(_mm512_cvtneps_pbh(v));
#else
  const vu u = as<vu>(v);
  const vu bits = v == v ? (u + 0x7fffu + ((u >> 16) & 1u)) >> 16 : (u >> 16) | 0x40u;
  return narrow_halves(bits);
#endif
}

EQ_INLINE vf read_part(const bf16* p, std::int64_t n) { return as<vf>(read_halves(p, n) << 16); }
EQ_INLINE void write_part(bf16* p, vf v, std::int64_t n) { write_halves(p, round_halves(v), n); }
EQ_INLINE void write(float* p, vf v) { store(p, v); }
EQ_INLINE void write(bf16* p, vf v) { store(p, round_halves(v)); }

}  // namespace eq::EQ_ISA
