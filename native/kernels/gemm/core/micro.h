// Register-blocked microkernels: C[R x NV vectors] = (or +=) A panel * B panel.
//
// f32 on AVX-512: 14 x 32, 28 accumulators, two vectors of B and one broadcast of A: 16 loads for 28 FMAs, below
// the two loads a cycle of the processors. bf16: the same block, vdpbf16ps on pairs of k.
#pragma once

#include <utility>

#include "geometry.h"
#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

namespace eq::EQ_ISA {

/// kc is the packed depth. c has rows of ldc floats with room for NV whole vectors; `fresh` overwrites them.
template <class T>
using Micro = void (*)(std::int64_t kc, const T* a, const T* b, float* c, std::int64_t ldc, bool fresh);

EQ_INLINE vf multiply_add(vf sum, float a, vf b) { return sum + a * b; }

#if defined(__AVX512BF16__)
struct Pair { std::uint32_t bits; };
EQ_INLINE vf multiply_add(vf sum, Pair a, vf b) {
  const __m512i both = _mm512_set1_epi32(static_cast<int>(a.bits));
  return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(both), reinterpret_cast<__m512bh>(b));
}
EQ_INLINE Pair element(const bf16* a) { return {load<std::uint32_t>(a)}; }
#endif
EQ_INLINE float element(const float* a) { return *a; }

template <class T, int R, int NV, bool KMajor>
static void micro(std::int64_t kc, const T* a, const T* b, float* c, std::int64_t ldc, bool fresh) {
  constexpr int kPair = Panel<T>::kPair;
  constexpr std::int64_t row = KMajor ? kPair : Panel<T>::kStride;
  constexpr std::int64_t step = KMajor ? kRows * kPair : kPair;
  vf sum[R][NV];
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < NV; ++j) sum[i][j] = vf{};
#pragma GCC unroll 1
  for (std::int64_t k = 0; k < kc; k += kPair) {
    vf col[NV];
#pragma GCC unroll 4
    for (int j = 0; j < NV; ++j) col[j] = load<vf>(b + j * kLanes * kPair);
#pragma GCC unroll 16
    for (int i = 0; i < R; ++i) {
      const auto x = element(a + i * row);
#pragma GCC unroll 4
      for (int j = 0; j < NV; ++j) sum[i][j] = multiply_add(sum[i][j], x, col[j]);
    }
    a += step;
    b += NV * kLanes * kPair;
  }
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i, c += ldc)
#pragma GCC unroll 4
    for (int j = 0; j < NV; ++j) {
      float* to = c + j * kLanes;
      store(to, fresh ? sum[i][j] : load(to) + sum[i][j]);
    }
}

template <class T, int NV, bool KMajor, int... R>
static constexpr Micro<T> pick_rows(int rows, std::integer_sequence<int, R...>) {
  constexpr Micro<T> table[] = {micro<T, R + 1, NV, KMajor>...};
  return table[rows - 1];
}

/// The microkernel for `rows` rows (1..kRows) and a panel of one or kColVectors vectors.
template <class T>
static Micro<T> pick_micro(int rows, bool wide, bool k_major) {
  constexpr auto all = std::make_integer_sequence<int, kRows>{};
  if (k_major) return wide ? pick_rows<T, kColVectors, true>(rows, all) : pick_rows<T, 1, true>(rows, all);
  return wide ? pick_rows<T, kColVectors, false>(rows, all) : pick_rows<T, 1, false>(rows, all);
}

}  // namespace eq::EQ_ISA
