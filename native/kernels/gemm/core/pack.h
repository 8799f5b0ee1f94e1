// Packing of A and B into panels (see geometry.h), converting between f32 and bf16 on the way: f32 values that go
// into bf16 panels are rounded to nearest even; bf16 values that go into f32 panels are exact.
#pragma once

#include "parts.h"

namespace eq::EQ_ISA {

/// kLanes values, or the first n, as bf16 in the low halves of 32-bit lanes.
EQ_INLINE vu low_halves(const float* p) { return widen_halves(round_halves(load(p))); }
EQ_INLINE vu low_halves(const bf16* p) { return widen_halves(load<vh>(p)); }
EQ_INLINE vu low_halves(const float* p, std::int64_t n) { return widen_halves(round_halves(read_part(p, n))); }
EQ_INLINE vu low_halves(const bf16* p, std::int64_t n) { return read_halves(p, n); }

/// n consecutive values, converted.
template <class S, class T>
EQ_INLINE void copy_run(const S* from, T* to, std::int64_t n) {
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) write(to + i, load(from + i));
  if (i < n) write_part(to + i, read_part(from + i, n - i), n - i);
}
EQ_INLINE void copy_run(const bf16* from, bf16* to, std::int64_t n) {
  std::int64_t i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) store(to + i, load<vu>(from + i));
  if (i + kLanes <= n) {
    store(to + i, load<vh>(from + i));
    i += kLanes;
  }
  if (i < n) write_halves(to + i, narrow_halves(read_halves(from + i, n - i)), n - i);
}
/// `rows` runs of n values, `step` elements apart, to the rows of a panel: a column of vectors at a time, so that no
/// row pays for the end of a loop.
template <class S, class T>
EQ_INLINE void copy_runs(const S* from, std::int64_t step, T* to, std::int64_t n, std::int64_t rows) {
  constexpr std::int64_t kStride = Panel<T>::kStride;
  // Values that stay what they are go two vectors of bf16 at a time.
  constexpr std::int64_t kWidth = sizeof(S) == 2 && sizeof(T) == 2 ? 2 * kLanes : kLanes;
  std::int64_t i = 0;
  for (; i + kWidth <= n; i += kWidth) {
    const S* source = from + i;
    T* target = to + i;
    for (std::int64_t r = 0; r < rows; ++r, source += step, target += kStride) copy_run(source, target, kWidth);
  }
  if (i < n)
    for (std::int64_t r = 0; r < rows; ++r) copy_run(from + r * step + i, to + r * kStride + i, n - i);
}
template <class T>
EQ_INLINE void zero_run(T* to, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) to[i] = T(0.0f);
}

/// One k (float panels) or a pair of k (bf16 panels) of kLanes consecutive columns, or of the first n, as 32-bit units.
template <class S>
EQ_INLINE vf units(const S* first, const S*, const float*) {
  return load(first);
}
template <class S>
EQ_INLINE vf units(const S* first, const S* second, const bf16*) {
  return as<vf>(low_halves(first) | (low_halves(second) << 16));
}
template <class S>
EQ_INLINE vf units(const S* first, const S*, const float*, std::int64_t n) {
  return read_part(first, n);
}
template <class S>
EQ_INLINE vf units(const S* first, const S* second, const bf16*, std::int64_t n) {
  return as<vf>(low_halves(first, n) | (low_halves(second, n) << 16));
}

/// What a pair without a second half reads.
template <class S>
EQ_INLINE const S* zeros() {
  alignas(64) static const S values[kCols] = {};
  return values;
}

/// B panel from rows of k: row k at row(k), `used` columns, panel `width` wide.
template <class S, class T, class Row>
EQ_INLINE void pack_columns(Row row, std::int64_t kc, std::int64_t padded, std::int64_t used, std::int64_t width,
                            T* to) {
  constexpr int kPair = Panel<T>::kPair;
  for (std::int64_t k = 0; k < padded; k += kPair, to += width * kPair) {
    if (k >= kc) {
      zero_run(to, width * kPair);
      continue;
    }
    const S* first = row(k);
    const S* second = kPair == 2 && k + 1 < kc ? row(k + 1) : zeros<S>();
    for (std::int64_t j = 0; j < width; j += kLanes) {
      const std::int64_t left = used - j;
      vf v{};
      if (left >= kLanes)
        v = units(first + j, second + j, to);
      else if (left > 0)
        v = units(first + j, second + j, to, left);
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
EQ_INLINE void pack_transposed(Column column, std::int64_t kc, std::int64_t padded, std::int64_t used,
                               std::int64_t width, T* to) {
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

/// Sixteen steps of k of an A panel for tiles, whose source has its rows side by side: transposes to row-major.
template <class S, class T, class Row>
EQ_INLINE void pack_tile_columns(Row row, std::int64_t k, std::int64_t kc, std::int64_t rows, T* to) {
  constexpr int kPair = Panel<T>::kPair;
  for (std::int64_t i = 0; i < rows; i += kLanes) {
    const std::int64_t left = rows - i;
    vf block[kLanes];
    for (int u = 0; u < kLanes; ++u) {
      const std::int64_t d = k + u * kPair;
      const S* first = d < kc ? row(d) + i : zeros<S>();
      const S* second = d + kPair - 1 < kc ? row(d + kPair - 1) + i : zeros<S>();
      block[u] = left >= kLanes ? units(first, second, to) : units(first, second, to, left);
    }
    transpose_units(block);
    for (int r = 0; r < kLanes && r < left; ++r)
      store(reinterpret_cast<float*>(to + (i + r) * Panel<T>::kStride + k), block[r]);
  }
}

/// A panel from a source whose rows lie side by side: `rows` <= kRows consecutive values at row(k) for each k. k-major,
/// or transposed to row-major for tiles. Writes up to kLanes units beyond a k-major panel's end: geometry.h leaves
/// room for them.
template <class S, class T, class Row>
EQ_INLINE void pack_k_major(Row row, std::int64_t kc, std::int64_t padded, std::int64_t rows, T* to) {
  constexpr int kPair = Panel<T>::kPair, kRows = Panel<T>::kRows;
  if constexpr (Panel<T>::kTiled) {
    for (std::int64_t k = 0; k < padded; k += kLanes * kPair) pack_tile_columns<S>(row, k, kc, rows, to);
    return;
  }
  static_assert(kPair * kLanes <= (Panel<T>::kStride - Panel<T>::kDepth) * kRows);
  for (std::int64_t k = 0; k < padded; k += kPair, to += kRows * kPair) {
    const S* first = k < kc ? row(k) : zeros<S>();
    const S* second = kPair == 2 && k + 1 < kc ? row(k + 1) : zeros<S>();
    // Ascending k: what a store puts beyond its kRows units, the next one overwrites.
    for (std::int64_t i = 0; i < kRows; i += kLanes) {
      const std::int64_t left = rows - i;
      const vf v = left >= kLanes ? units(first + i, second + i, to)
                   : left > 0     ? units(first + i, second + i, to, left)
                                  : vf{};
      store(reinterpret_cast<float*>(to + i * kPair), v);
    }
  }
}

}  // namespace eq::EQ_ISA
