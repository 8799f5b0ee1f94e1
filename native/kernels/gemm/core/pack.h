// Packing of A and B into panels (see geometry.h), converting between f32 and bf16 on the way: f32 values that go
// into bf16 panels are rounded to nearest even; bf16 values that go into f32 panels are exact.
#pragma once

#include "geometry.h"
#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

namespace eq::EQ_ISA {

/// kLanes values as bf16 in the low halves of 32-bit lanes.
EQ_INLINE vu low_halves(vf v) {
#if defined(__AVX512BF16__)
  return __builtin_convertvector(reinterpret_cast<vh>(_mm512_cvtneps_pbh(v)), vu);
#else
  const vu u = as<vu>(v);
  return (u & 0x7fffffffu) > 0x7f800000u ? (u >> 16) | 0x40u : (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
#endif
}
EQ_INLINE vu low_halves(const float* p) { return low_halves(load(p)); }
EQ_INLINE vu low_halves(const bf16* p) { return __builtin_convertvector(load<vh>(p), vu); }

/// n consecutive values, converted.
EQ_INLINE void copy_run(const float* from, float* to, std::int64_t n) {
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(to + i, load(from + i));
  for (; i < n; ++i) to[i] = from[i];
}
EQ_INLINE void copy_run(const bf16* from, bf16* to, std::int64_t n) {
  std::int64_t i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) store(to + i, load<vu>(from + i));
  for (; i < n; ++i) to[i] = from[i];
}
EQ_INLINE void copy_run(const bf16* from, float* to, std::int64_t n) { widen(from, to, n); }
EQ_INLINE void copy_run(const float* from, bf16* to, std::int64_t n) {
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(to + i, __builtin_convertvector(low_halves(from + i), vh));
  for (; i < n; ++i) to[i] = bf16(from[i]);
}
template <class T>
EQ_INLINE void zero_run(T* to, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) to[i] = T(0.0f);
}

/// One k (float panels) or a pair of k (bf16 panels) of `count` <= lanes * kLanes consecutive columns, as 32-bit
/// units. `second` is null where the pair has only its first half. Lanes beyond `count` become zero.
template <class S>
EQ_INLINE vf unit_vector(const S* first, const S* second, const float*) {
  (void)second;
  return load(first);
}
template <class S>
EQ_INLINE vf unit_vector(const S* first, const S* second, const bf16*) {
  const vu low = low_halves(first);
  return as<vf>(second ? low | (low_halves(second) << 16) : low);
}
template <class S, class T>
EQ_INLINE vf unit_part(const S* first, const S* second, std::int64_t count, const T* kind) {
  S low[kLanes] = {}, high[kLanes] = {};
  std::memcpy(static_cast<void*>(low), first, static_cast<std::size_t>(count) * sizeof(S));
  if (second) std::memcpy(static_cast<void*>(high), second, static_cast<std::size_t>(count) * sizeof(S));
  return unit_vector(low, high, kind);
}

/// B panel from rows of k: row k at row(k), `used` columns, panel `width` wide.
template <class S, class T, class Row>
EQ_INLINE void pack_columns(Row row, std::int64_t kc, std::int64_t padded, std::int64_t used, std::int64_t width, T* to) {
  constexpr int kPair = Panel<T>::kPair;
  for (std::int64_t k = 0; k < padded; k += kPair, to += width * kPair) {
    if (k >= kc) {
      zero_run(to, width * kPair);
      continue;
    }
    const S* first = row(k);
    const S* second = kPair == 2 && k + 1 < kc ? row(k + 1) : nullptr;
    for (std::int64_t j = 0; j < width; j += kLanes) {
      const std::int64_t left = used - j;
      vf v{};
      if (left >= kLanes) v = unit_vector(first + j, second ? second + j : nullptr, to);
      else if (left > 0) v = unit_part(first + j, second ? second + j : nullptr, left, to);
      store(reinterpret_cast<float*>(to + j * kPair), v);
    }
  }
}

/// Transposes a kLanes x kLanes matrix of 32-bit units by swapping blocks of 1, 2, 4, ... lanes.
EQ_INLINE void transpose_units(vf (&v)[kLanes]) {
#pragma GCC unroll 4
  for (int s = 1; s < kLanes; s *= 2) {
    vi low{}, high{};
    for (int l = 0; l < kLanes; ++l) {
      low[l] = (l & s) ? kLanes + l - s : l;
      high[l] = (l & s) ? kLanes + l : l + s;
    }
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) {
      if (i & s) continue;
      const vf a = v[i], b = v[i | s];
      v[i] = __builtin_shuffle(a, b, low);
      v[i | s] = __builtin_shuffle(a, b, high);
    }
  }
}

/// kLanes units of one row along k: kLanes floats, or kLanes pairs of bf16.
EQ_INLINE vf row_units(const float* p, const float*) { return load(p); }
EQ_INLINE vf row_units(const bf16* p, const float*) { return load(p); }
EQ_INLINE vf row_units(const bf16* p, const bf16*) { return load<vf>(p); }
EQ_INLINE vf row_units(const float* p, const bf16*) {
  bf16 pair[2 * kLanes];
  copy_run(p, pair, 2 * kLanes);
  return load<vf>(pair);
}

/// B panel from columns: column j has its values of k one after the other at column(j).
template <class S, class T, class Column>
EQ_INLINE void pack_transposed(Column column, std::int64_t kc, std::int64_t padded, std::int64_t used, std::int64_t width,
                               T* to) {
  constexpr int kPair = Panel<T>::kPair;
  constexpr std::int64_t kStep = kLanes * kPair;
  for (std::int64_t j = 0; j < width; j += kLanes) {
    for (std::int64_t k = 0; k < padded; k += kStep) {
      vf block[kLanes];
      for (int l = 0; l < kLanes; ++l) {
        if (j + l >= used || k >= kc) {
          block[l] = vf{};
        } else if (k + kStep <= kc) {
          block[l] = row_units(column(j + l) + k, to);
        } else {
          S part[kStep] = {};
          std::memcpy(static_cast<void*>(part), column(j + l) + k, static_cast<std::size_t>(kc - k) * sizeof(S));
          block[l] = row_units(part, to);
        }
      }
      transpose_units(block);
      const std::int64_t units = padded - k < kStep ? (padded - k) / kPair : kLanes;
      for (std::int64_t u = 0; u < units; ++u)
        store(reinterpret_cast<float*>(to + (k + u * kPair) * width + j * kPair), block[u]);
    }
  }
}

/// k-major A panel: `rows` <= kRows consecutive values at row(k) for each k.
template <class S, class T, class Row>
EQ_INLINE void pack_k_major(Row row, std::int64_t kc, std::int64_t padded, std::int64_t rows, T* to) {
  constexpr int kPair = Panel<T>::kPair;
  for (std::int64_t k = 0; k < padded; k += kPair, to += kRows * kPair) {
    if (k >= kc) {
      zero_run(to, kRows * kPair);
      continue;
    }
    const S* first = row(k);
    const S* second = kPair == 2 && k + 1 < kc ? row(k + 1) : nullptr;
    for (std::int64_t i = 0; i < rows; i += kLanes) {
      const std::int64_t left = rows - i < kLanes ? rows - i : kLanes;
      const vf v = unit_part(first + i, second ? second + i : nullptr, left, to);
      std::memcpy(static_cast<void*>(to + i * kPair), &v, static_cast<std::size_t>(left) * 4);
    }
  }
}

}  // namespace eq::EQ_ISA
