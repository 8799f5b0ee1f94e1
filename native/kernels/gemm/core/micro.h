// Register-blocked microkernels: C[R x NV vectors] = (or +=) A panel * B panel.
//
// f32 on AVX-512: 14 x 32, 28 accumulators, two vectors of B and one broadcast of A: 16 loads for 28 FMAs, below
// the two loads a cycle of the processors. bf16: the same block, vdpbf16ps on pairs of k.
#pragma once

#include "amx.h"
#include "geometry.h"
#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

namespace eq::EQ_ISA {

/// kc is the packed depth. c has rows of ldc floats with room for NV whole vectors; `fresh` overwrites them.
template <class T>
using Micro = void (*)(std::int64_t kc, const T* a, const T* b, float* c, std::int64_t ldc, bool fresh);

/// The microkernel for `rows` rows (1..kRows) and a panel of one or kColVectors vectors. Defined for float, and for
/// bf16 where the processor multiplies bf16 (cpu_micro.cc).
template <class T>
Micro<T> pick_micro(int rows, bool wide, bool k_major);
template <>
Micro<float> pick_micro<float>(int rows, bool wide, bool k_major);
#if defined(__AVX512BF16__)
template <>
Micro<bf16> pick_micro<bf16>(int rows, bool wide, bool k_major);
#endif

EQ_INLINE vf multiply_add(vf sum, float a, vf b) { return sum + a * b; }

#if defined(__AVX512BF16__)
struct Pair {
  std::uint32_t bits;
};
EQ_INLINE vf multiply_add(vf sum, Pair a, vf b) {
  const __m512i both = _mm512_set1_epi32(static_cast<int>(a.bits));
  return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(both), reinterpret_cast<__m512bh>(b));
}
EQ_INLINE Pair element(const bf16* a) { return {load<std::uint32_t>(a)}; }
#endif
EQ_INLINE float element(const float* a) { return *a; }

}  // namespace eq::EQ_ISA
