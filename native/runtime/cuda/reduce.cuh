// Sums and extremes over a warp or a block. The order of additions depends on the thread's index alone, so that equal
// input gives equal bits. Every thread of the warp or block must take part; all get the result.
#pragma once

#include "runtime/cuda/kernel.cuh"

namespace eq {

constexpr unsigned kFullWarp = 0xffffffffu;

struct Add {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a + b;
  }
};
/// NaN wins over every number, as in the reductions of TensorFlow.js.
struct Greater {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a > b || a != a ? a : b;
  }
};

/// Combines the values of `kWidth` neighbouring lanes (a power of two).
template <int kWidth = 32, class T, class Combine>
__device__ inline T warp_combine(T value, Combine combine) {
#pragma unroll
  for (int step = kWidth / 2; step > 0; step /= 2) value = combine(value, __shfl_xor_sync(kFullWarp, value, step));
  return value;
}
template <int kWidth = 32, class T>
__device__ inline T warp_sum(T value) {
  return warp_combine<kWidth>(value, Add{});
}
template <int kWidth = 32, class T>
__device__ inline T warp_max(T value) {
  return warp_combine<kWidth>(value, Greater{});
}

/// Combines one value per thread of a one-dimensional block of `kThreads` threads (a multiple of 32, at most 1024).
/// `shared` holds kThreads / 32 values and may be used again as soon as the call returns.
template <int kThreads, class T, class Combine>
__device__ inline T block_combine(T value, T* shared, Combine combine) {
  static_assert(kThreads % 32 == 0 && kThreads <= 1024);
  constexpr int kWarps = kThreads / 32;
  value = warp_combine(value, combine);
  if constexpr (kWarps > 1) {
    if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = value;
    __syncthreads();
    // Every thread adds the warps' values in the same order: no second exchange.
    value = shared[0];
#pragma unroll
    for (int w = 1; w < kWarps; ++w) value = combine(value, shared[w]);
    __syncthreads();
  }
  return value;
}
template <int kThreads, class T>
__device__ inline T block_sum(T value, T* shared) {
  return block_combine<kThreads>(value, shared, Add{});
}

}  // namespace eq
