// Vector loads and stores of up to 16 bytes, computing in f32 whatever the storage. Pointers given to load and store
// must be aligned to the vector's size; `vectors_fit` tells a launcher whether that holds for a whole tensor.
#pragma once

#include <cstdint>

#include "runtime/cuda/kernel.cuh"
#include "runtime/dtype.h"

namespace eq {

/// Elements of T in 16 bytes.
template <class T>
inline constexpr int kVector = 16 / static_cast<int>(sizeof(T));

/// True when rows of `row_size` elements starting at `p` may be read in vectors of `lanes` elements of `type`.
inline bool vectors_fit(const void* p, DType type, std::int64_t row_size, int lanes) {
  return row_size % lanes == 0 &&
         reinterpret_cast<std::uintptr_t>(p) % (static_cast<std::size_t>(lanes) * dtype_size(type)) == 0;
}

/// Calls f with a value of the C++ type that stores `type`: float or bf16 (all tensors of a float kernel).
template <class F>
void with_float_type(DType type, F&& f) {
  if (type == DType::BF16)
    f(bf16{});
  else
    f(float{});
}

__device__ inline float to_float(float x) { return x; }
__device__ inline float to_float(bf16 x) { return static_cast<float>(x); }

template <class T>
__device__ inline T from_float(float x);
template <>
__device__ inline float from_float<float>(float x) {
  return x;
}
/// Rounds to nearest, ties to even; NaN stays NaN.
template <>
__device__ inline bf16 from_float<bf16>(float x) {
#if EQ_SIMT
  return bf16(x);
#else
  bf16 y;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
  return y;
#endif
}

/// Two numbers as bf16 in one word, `low` at the lower address.
__device__ inline std::uint32_t pack_bf16(float low, float high) {
#if EQ_SIMT
  return bf16(low).bits | static_cast<std::uint32_t>(bf16(high).bits) << 16;
#else
  std::uint32_t word;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
  return word;
#endif
}
__device__ inline float low_bf16(std::uint32_t word) { return __uint_as_float(word << 16); }
__device__ inline float high_bf16(std::uint32_t word) { return __uint_as_float(word & 0xffff0000u); }

/// Reads N consecutive elements as floats: one access of N * sizeof(T) bytes (2, 4, 8 or 16), or several of 16.
template <int N, class T>
__device__ inline void load_vector(const T* p, float (&out)[N]) {
  constexpr int kBytes = N * static_cast<int>(sizeof(T));
  if constexpr (N == 1) {
    out[0] = to_float(*p);
  } else if constexpr (kBytes > 16) {
    static_assert(kBytes % 16 == 0);
#pragma unroll
    for (int part = 0; part < kBytes / 16; ++part) {
      float some[kVector<T>];
      load_vector<kVector<T>>(p + part * kVector<T>, some);
#pragma unroll
      for (int i = 0; i < kVector<T>; ++i) out[part * kVector<T> + i] = some[i];
    }
  } else if constexpr (sizeof(T) == 4) {
    static_assert(N == 2 || N == 4);
    if constexpr (N == 4) {
      const float4 v = *reinterpret_cast<const float4*>(p);
      out[0] = v.x, out[1] = v.y, out[2] = v.z, out[3] = v.w;
    } else {
      const float2 v = *reinterpret_cast<const float2*>(p);
      out[0] = v.x, out[1] = v.y;
    }
  } else {
    static_assert(N == 2 || N == 4 || N == 8);
    std::uint32_t words[N / 2];
    if constexpr (N == 8) {
      const uint4 v = *reinterpret_cast<const uint4*>(p);
      words[0] = v.x, words[1] = v.y, words[2] = v.z, words[3] = v.w;
    } else if constexpr (N == 4) {
      const uint2 v = *reinterpret_cast<const uint2*>(p);
      words[0] = v.x, words[1] = v.y;
    } else {
      words[0] = *reinterpret_cast<const unsigned*>(p);
    }
#pragma unroll
    for (int i = 0; i < N / 2; ++i) {
      out[2 * i] = low_bf16(words[i]);
      out[2 * i + 1] = high_bf16(words[i]);
    }
  }
}

/// Writes N consecutive elements, rounding to T's precision.
template <int N, class T>
__device__ inline void store_vector(T* p, const float (&in)[N]) {
  constexpr int kBytes = N * static_cast<int>(sizeof(T));
  if constexpr (N == 1) {
    *p = from_float<T>(in[0]);
  } else if constexpr (kBytes > 16) {
    static_assert(kBytes % 16 == 0);
#pragma unroll
    for (int part = 0; part < kBytes / 16; ++part) {
      float some[kVector<T>];
#pragma unroll
      for (int i = 0; i < kVector<T>; ++i) some[i] = in[part * kVector<T> + i];
      store_vector<kVector<T>>(p + part * kVector<T>, some);
    }
  } else if constexpr (sizeof(T) == 4) {
    static_assert(N == 2 || N == 4);
    if constexpr (N == 4)
      *reinterpret_cast<float4*>(p) = make_float4(in[0], in[1], in[2], in[3]);
    else
      *reinterpret_cast<float2*>(p) = make_float2(in[0], in[1]);
  } else {
    static_assert(N == 2 || N == 4 || N == 8);
    std::uint32_t words[N / 2];
#pragma unroll
    for (int i = 0; i < N / 2; ++i) words[i] = pack_bf16(in[2 * i], in[2 * i + 1]);
    if constexpr (N == 8)
      *reinterpret_cast<uint4*>(p) = make_uint4(words[0], words[1], words[2], words[3]);
    else if constexpr (N == 4)
      *reinterpret_cast<uint2*>(p) = make_uint2(words[0], words[1]);
    else
      *reinterpret_cast<unsigned*>(p) = words[0];
  }
}

/// One element of a float tensor whose storage is known at run time only.
__device__ inline float load_float(const void* p, DType type, std::int64_t i) {
  return type == DType::BF16 ? to_float(static_cast<const bf16*>(p)[i]) : static_cast<const float*>(p)[i];
}
__device__ inline void store_float(void* p, DType type, std::int64_t i, float x) {
  if (type == DType::BF16)
    static_cast<bf16*>(p)[i] = from_float<bf16>(x);
  else
    static_cast<float*>(p)[i] = x;
}

}  // namespace eq
