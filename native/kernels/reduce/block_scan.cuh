// Running sums and products over the threads of a block, in double precision. The order of operations depends on the
// thread's index alone.
#pragma once

#include "runtime/cuda/reduce.cuh"

namespace eq {

struct ScanSum {
  static constexpr double kIdentity = 0;
  __device__ double operator()(double a, double b) const { return a + b; }
};
struct ScanProduct {
  static constexpr double kIdentity = 1;
  __device__ double operator()(double a, double b) const { return a * b; }
};

/// What comes before a thread's value, and the whole block's.
struct Scanned {
  double before, total;
};

/// One value per thread of a block of kThreads (a multiple of 32, at most 1024). `shared` holds kThreads / 32 values
/// and may be used again as soon as the call returns.
template <int kThreads, class Combine>
__device__ inline Scanned block_scan(double value, double* shared, Combine combine) {
  constexpr int kWarps = kThreads / 32;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  double through = value;
#pragma unroll
  for (int step = 1; step < 32; step *= 2) {
    const double other = __shfl_up_sync(kFullWarp, through, step);
    if (lane >= step) through = combine(other, through);
  }
  if (lane == 31) shared[warp] = through;
  double before = __shfl_up_sync(kFullWarp, through, 1);
  if (lane == 0) before = Combine::kIdentity;
  __syncthreads();
  double total = Combine::kIdentity, warps_before = Combine::kIdentity;
#pragma unroll
  for (int w = 0; w < kWarps; ++w) {
    if (w == warp) warps_before = total;
    total = combine(total, shared[w]);
  }
  __syncthreads();
  return {combine(warps_before, before), total};
}

}  // namespace eq
