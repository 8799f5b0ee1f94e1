// The microkernels of one instruction set, one per number of rows.
#include "micro.h"

#include <utility>

namespace eq::EQ_ISA {

template <class T, int R, int NV, bool KMajor>
static void micro(std::int64_t kc, const T* a, const T* b, float* c, std::int64_t ldc, bool fresh) {
  constexpr int kPair = Panel<T>::kPair;
  constexpr std::int64_t row = KMajor ? kPair : Panel<T>::kStride;
  constexpr std::int64_t step = KMajor ? Panel<T>::kRows * kPair : kPair;
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

template <class T>
static Micro<T> pick(int rows, bool wide, bool k_major) {
#if EQ_AMX
  if constexpr (Panel<T>::kTiled) {
    if (rows > 16) return wide ? micro_amx<2, 2> : micro_amx<2, 1>;
    return wide ? micro_amx<1, 2> : micro_amx<1, 1>;
  } else
#endif
  {
    constexpr auto all = std::make_integer_sequence<int, Panel<T>::kRows>{};
    if (k_major) return wide ? pick_rows<T, kColVectors, true>(rows, all) : pick_rows<T, 1, true>(rows, all);
    return wide ? pick_rows<T, kColVectors, false>(rows, all) : pick_rows<T, 1, false>(rows, all);
  }
}

template <>
Micro<float> pick_micro<float>(int rows, bool wide, bool k_major) {
  return pick<float>(rows, wide, k_major);
}
#if defined(__AVX512BF16__)
template <>
Micro<bf16> pick_micro<bf16>(int rows, bool wide, bool k_major) {
  return pick<bf16>(rows, wide, k_major);
}
#endif

}  // namespace eq::EQ_ISA
