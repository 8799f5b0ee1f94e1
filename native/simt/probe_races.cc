// What the shim must find where threads race, and what it must not: blocks of 64 threads, two of them, each kernel
// with one mistake or none. No result shows the mistake: the fibers' order happens to be a good one. See probe.cc.
#include <cstring>

#include "runtime/cuda/hopper.cuh"
#include "runtime/cuda/kernel.cuh"
#include "runtime/cuda/warp_mma.cuh"
#include "simt/probe.h"

namespace eq {

namespace {

constexpr unsigned kBlocks = 2, kThreads = 64;

struct Exchange {
  const float* x;       ///< [kBlocks * kThreads]
  float* y;             ///< [kBlocks * kThreads]
  float* sums;          ///< [kBlocks]
  int* counts;          ///< [4]
  std::uint8_t* bytes;  ///< [kBlocks * kThreads]
  unsigned* ticket;
};

__device__ unsigned index() { return blockIdx.x * kThreads + threadIdx.x; }

/// Reverses the block's values twice, through the same memory.
template <bool kAfterStore, bool kBeforeReuse>
__global__ void reverse(Exchange p) {
  __shared__ float values[kThreads];
  values[threadIdx.x] = p.x[index()];
  if (kAfterStore) __syncthreads();
  const float value = values[kThreads - 1 - threadIdx.x];
  if (kBeforeReuse) __syncthreads();
  values[threadIdx.x] = value;
  __syncthreads();
  p.y[index()] = values[kThreads - 1 - threadIdx.x];
}

/// Each lane takes its neighbour's value from memory that its warp shares; a shuffle in the place of __syncwarp.
template <bool kSyncwarp>
__global__ void take_from_lane(Exchange p) {
  float* const values = dynamic_shared<float>();
  values[threadIdx.x] = p.x[index()];
  if (kSyncwarp)
    __syncwarp();
  else
    __shfl_xor_sync(0xffffffffu, 0, 1);
  p.y[index()] = values[threadIdx.x ^ 1];
}

/// The same between warps, of which each waits for itself only.
__global__ void take_from_warp(Exchange p) {
  float* const values = dynamic_shared<float>();
  values[threadIdx.x] = p.x[index()];
  __syncwarp();
  p.y[index()] = values[threadIdx.x ^ 32];
}

/// A hardware barrier that one warp of two waits at, or both.
template <unsigned kWaiting>
__global__ void named(Exchange p) {
  float* const values = dynamic_shared<float>();
  values[threadIdx.x] = p.x[index()];
  if (threadIdx.x < kWaiting) hopper::named_barrier(1, kWaiting);
  p.y[index()] = values[threadIdx.x ^ 32];
}

/// An asynchronous copy that each thread waits for, and all threads read.
template <bool kBarrier>
__global__ void copies(Exchange p) {
  float* const values = dynamic_shared<float>();
  if (threadIdx.x % 4 == 0) copy_async(values + threadIdx.x, p.x + index(), 16);
  copy_commit();
  copy_wait<0>();
  if (kBarrier) __syncthreads();
  p.y[index()] = values[kThreads - 1 - threadIdx.x];
}

/// All blocks write the same value to the same place.
__global__ void same_output(Exchange p) {
  p.y[index()] = p.x[index()];
  if (threadIdx.x == 0) p.sums[0] = 1;
}
__global__ void reads_another_block(Exchange p) {
  p.y[index()] = p.x[index()];
  if (threadIdx.x == 0) p.sums[blockIdx.x] = p.y[(index() + kThreads) % (kBlocks * kThreads)] == 0;
}
/// In place, where each element needs its neighbour.
__global__ void in_place(Exchange p) {
  p.y[index()] = p.x[index()];
  __syncthreads();
  p.y[index()] += p.y[index() ^ 1];
}

/// Neighbouring bytes are not one another.
__global__ void bytes(Exchange p) { p.bytes[index()] = static_cast<std::uint8_t>(index()); }

template <bool kAtomically>
__global__ void count(Exchange p) {
  __shared__ int counts[4];
  if (threadIdx.x < 4) counts[threadIdx.x] = 0;
  __syncthreads();
  atomicAdd(&counts[threadIdx.x % 4], 1);
  if (kAtomically) __syncthreads();
  if (threadIdx.x < 4) atomicAdd(&p.counts[threadIdx.x], counts[threadIdx.x]);
}

/// The last block adds up what all blocks have written: CUDA programming guide, "Memory Fence Functions".
template <bool kFenceBefore, bool kFenceAfter, bool kBarrier>
__global__ void last_block(Exchange p) {
  __shared__ bool last;
  p.y[index()] = p.x[index()];
  if (kFenceBefore) __threadfence();
  if (kBarrier) __syncthreads();
  if (threadIdx.x == 0) last = atomicAdd(p.ticket, 1u) == gridDim.x - 1;
  __syncthreads();
  if (!last) return;
  if (kFenceAfter) __threadfence();
  const float own = p.y[threadIdx.x], other = p.y[kThreads + threadIdx.x];
  // Nobody else is left to read or write them.
  p.y[threadIdx.x] = p.y[kThreads + threadIdx.x] = own + other;
  if (threadIdx.x == 0) *p.ticket = 0;
}

const struct {
  const char* name;
  void (*kernel)(Exchange);
} kKernels[] = {{"race_none_barriers", reverse<true, true>},
                {"race_none_syncwarp", take_from_lane<true>},
                {"race_none_named_barrier", named<64>},
                {"race_none_copies", copies<true>},
                {"race_none_bytes", bytes},
                {"race_none_atomics", count<true>},
                {"race_none_last_block", last_block<true, true, true>},
                {"race_after_store", reverse<false, true>},
                {"race_before_reuse", reverse<true, false>},
                {"race_within_warp", take_from_lane<false>},
                {"race_between_warps", take_from_warp},
                {"race_outside_named_barrier", named<32>},
                {"race_with_copies", copies<false>},
                {"race_same_output", same_output},
                {"race_reads_another_block", reads_another_block},
                {"race_in_place", in_place},
                {"race_with_atomics", count<false>},
                {"race_no_fence_before", last_block<false, true, true>},
                {"race_no_fence_after", last_block<true, false, true>},
                {"race_no_barrier_before_ticket", last_block<true, true, false>}};

}  // namespace

bool probe_races(simt::SimtDevice& device, const char* name) {
  constexpr std::int64_t kAll = kBlocks * kThreads;
  const Tensor x = device.empty(DType::F32, {kAll}), y = device.empty(DType::F32, {kAll}),
               sums = device.empty(DType::F32, {kBlocks}), counts = device.empty(DType::I32, {4}),
               bytes = device.empty(DType::Bool, {kAll});
  fill_bytes(device, x.data(), 0, x.bytes());
  fill_bytes(device, counts.data(), 0, counts.bytes());
  for (const auto& [known, kernel] : kKernels) {
    if (std::strcmp(name, known) != 0) continue;
    // Twice, for both orders of execution.
    for (int i = 0; i < 2; ++i)
      launch_kernel(device, OpInfo("Race", {}), kernel, {.grid_x = kBlocks, .block = kThreads, .shared = kThreads * 4},
                    Exchange{x.data<float>(), y.data<float>(), sums.data<float>(), counts.data<int>(),
                             bytes.data<std::uint8_t>(), tickets(device)});
    return true;
  }
  return false;
}

}  // namespace eq
