// Reading and writing f32 or bf16 tensors as f32, a block at a time. A block of an f32 tensor is used in place;
// a block of a bf16 tensor goes through a buffer on the stack, small enough to stay in the first-level cache.
// Include it in cpu.cc files only.
#pragma once

#include <algorithm>

#include "kernels/simd.h"

namespace eq::EQ_ISA {

/// Elements per block: 4 KB of f32.
constexpr std::int64_t kBlock = 1024;

/// Room for one block, aligned for vectors.
struct alignas(64) BlockBuffer {
  float values[kBlock];
};

/// A tensor to read.
struct Source {
  const void* data;
  DType dtype;

  /// Elements begin .. begin + n (n <= kBlock) as f32; `buffer` is used for bf16 and must outlive the result.
  const float* block(std::int64_t begin, std::int64_t n, BlockBuffer& buffer) const {
    if (dtype == DType::F32) return static_cast<const float*>(data) + begin;
    widen(static_cast<const bf16*>(data) + begin, buffer.values, n);
    return buffer.values;
  }
};

/// A tensor to write: fill block(begin, buffer), then commit(begin, n, buffer).
struct Target {
  void* data;
  DType dtype;

  float* block(std::int64_t begin, BlockBuffer& buffer) const {
    return dtype == DType::F32 ? static_cast<float*>(data) + begin : buffer.values;
  }
  void commit(std::int64_t begin, std::int64_t n, const BlockBuffer& buffer) const {
    if (dtype == DType::BF16) narrow(buffer.values, static_cast<bf16*>(data) + begin, n);
  }
};

/// Calls f(begin, n) over [begin, end) in blocks.
template <class F>
EQ_INLINE void for_blocks(std::int64_t begin, std::int64_t end, F f) {
  for (std::int64_t i = begin; i < end; i += kBlock) f(i, std::min(kBlock, end - i));
}

/// The first n floats at p, the other lanes 0.
EQ_INLINE vf load_part(const float* p, std::int64_t n) {
  vf v{};
  std::memcpy(&v, p, static_cast<std::size_t>(n) * sizeof(float));
  return v;
}
EQ_INLINE void store_part(float* p, vf v, std::int64_t n) {
  std::memcpy(p, &v, static_cast<std::size_t>(n) * sizeof(float));
}
EQ_INLINE vf load_part(const bf16* p, std::int64_t n) { return load_part(p, static_cast<int>(n)); }
EQ_INLINE void store_part(bf16* p, vf v, std::int64_t n) { store_part(p, v, static_cast<int>(n)); }

/// Calls f(load, store) for each vector of [0, n): `load(p)` reads floats or bf16 at p[i..] and `store(p, v)` writes
/// them, both cut off at n. An element's value does not depend on its place.
template <class F>
EQ_INLINE void for_vectors(std::int64_t n, F f) {
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    f([i](const auto* p) { return load(p + i); }, [i](auto* p, vf v) { store(p + i, v); });
  }
  if (i < n) {
    const std::int64_t rest = n - i;
    f([i, rest](const auto* p) { return load_part(p + i, rest); },
      [i, rest](auto* p, vf v) { store_part(p + i, v, rest); });
  }
}

/// The even and the odd ones of 2 kLanes consecutive elements: what a vector of bf16 widens to without a shuffle.
struct EvenOdd {
  vf even, odd;
};
EQ_INLINE EvenOdd load_even_odd(const bf16* p) {
  const vu u = load<vu>(p);
  return {as<vf>(u << 16), as<vf>(u & 0xffff0000u)};
}
/// Rounds to nearest, ties to even. A NaN must have no bits set in its lower half, else it may come out as a number:
/// those that arithmetic makes, and those that come from bf16, have none.
EQ_INLINE void store_even_odd(bf16* p, const EvenOdd& v) {
  const auto rounded = [](vf x) { return as<vu>(x) + 0x7fffu + ((as<vu>(x) >> 16) & 1u); };
  store(p, (rounded(v.even) >> 16) | (rounded(v.odd) & 0xffff0000u));
}

/// As for_vectors, for bf16 alone and 2 kLanes elements at a time: `load` gives, and `store` takes, evens and odds.
/// `load` also reads floats, which must lie in whole vectors of evens and odds (`split_even_odd`).
template <class F>
EQ_INLINE void for_even_odd(std::int64_t n, F f) {
  constexpr std::int64_t kStep = 2 * kLanes;
  const auto load_floats = [](const float* p) { return EvenOdd{load<vf>(p), load<vf>(p + kLanes)}; };
  std::int64_t i = 0;
  for (; i + kStep <= n; i += kStep) {
    f(
        [&, i](const auto* p) {
          if constexpr (sizeof *p == sizeof(bf16))
            return load_even_odd(p + i);
          else
            return load_floats(p + i);
        },
        [i](bf16* p, const EvenOdd& v) { store_even_odd(p + i, v); });
  }
  if (i == n) return;
  const std::size_t rest = static_cast<std::size_t>(n - i) * sizeof(bf16);
  f(
      [&, i](const auto* p) {
        if constexpr (sizeof *p == sizeof(bf16)) {
          bf16 values[kStep] = {};
          std::memcpy(static_cast<void*>(values), p + i, rest);
          return load_even_odd(values);
        } else {
          return load_floats(p + i);
        }
      },
      [&, i](bf16* p, const EvenOdd& v) {
        bf16 values[kStep];
        store_even_odd(values, v);
        std::memcpy(static_cast<void*>(p + i), values, rest);
      });
}

/// Reorders n <= kBlock floats into whole vectors of evens and odds, for for_even_odd.
EQ_INLINE void split_even_odd(const float* from, std::int64_t n, BlockBuffer& to) {
  vi evens{};
  for (int l = 0; l < kLanes; ++l) evens[l] = 2 * l;
  const auto split = [&](const float* p, std::int64_t at) {
    const vf low = load<vf>(p), high = load<vf>(p + kLanes);
    store(to.values + at, __builtin_shuffle(low, high, evens));
    store(to.values + at + kLanes, __builtin_shuffle(low, high, evens + 1));
  };
  std::int64_t i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) split(from + i, i);
  if (i == n) return;
  float rest[2 * kLanes] = {};
  std::memcpy(rest, from + i, static_cast<std::size_t>(n - i) * sizeof(float));
  split(rest, i);
}

EQ_INLINE float lane_sum(vf v) {
  float sum = 0;
  for (int i = 0; i < kLanes; ++i) sum += v[i];
  return sum;
}

}  // namespace eq::EQ_ISA
