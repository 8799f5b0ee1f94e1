// Sums over the elements of a sample on the CUDA device, shared by the kernels of this family.
//
// The unit of summation is a block of kSumBlock elements, as on the CPU. Where a sample is one such block, or there are
// enough samples to fill the device, a thread block takes a sample and writes its result; else a thread block takes
// a sum block, leaves its sum in `partial` [samples, pieces], and a second small kernel adds them in order.
#pragma once

#include "runtime/cuda/reduce.cuh"
#include "runtime/cuda/storage.cuh"

#include "kernels/diffusion/mi_squared_norm/op.h"

namespace eq::sums {

/// 512 threads: a sum block of bf16 is four vectors of 16 bytes a thread. Two blocks on a multiprocessor leave 64
/// registers a thread, enough for all loads of two vectors of four tensors to be in flight.
constexpr int kThreads = 512;
constexpr int kBlocksPerProcessor = 2;

struct Split {
  std::int64_t samples, per_sample, pieces;
  /// Whether a thread block takes a sum block; else it takes a sample.
  bool pieced;

  std::int64_t items() const { return pieced ? samples * pieces : samples; }
};

inline Split split_samples(Device& device, std::int64_t samples, std::int64_t per_sample, std::int64_t pieces) {
  const std::int64_t enough = static_cast<std::int64_t>(multiprocessors(device)) * kBlocksPerProcessor;
  return {samples, per_sample, pieces, pieces > 1 && samples < enough};
}

/// The elements of work item `item`: begin .. end of the whole tensor.
struct Range {
  std::int64_t sample, begin, end;
};
__device__ inline Range item_range(const Split& s, std::int64_t item) {
  const std::int64_t sample = s.pieced ? item / s.pieces : item;
  const std::int64_t first = s.pieced ? item % s.pieces * kSumBlock : 0;
  const std::int64_t last = s.pieced && first + kSumBlock < s.per_sample ? first + kSumBlock : s.per_sample;
  return {sample, sample * s.per_sample + first, sample * s.per_sample + last};
}

/// Vectors of each input that a thread has in flight.
constexpr int kUnroll = 2;

/// Adds up f over [begin, end): f(vectors, at, stride) gives the sum over `vectors` (a constant) vectors of kN elements
/// starting at at, at + stride, ... Floats are added within a call, everything beyond in double. All threads get the
/// sum.
template <int kN, class F>
__device__ inline double range_sum(std::int64_t begin, std::int64_t end, double* shared, F f) {
  constexpr std::int64_t kStride = static_cast<std::int64_t>(kThreads) * kN;
  double total = 0;
  std::int64_t at = begin + static_cast<std::int64_t>(threadIdx.x) * kN;
  for (; at + (kUnroll - 1) * kStride < end; at += kUnroll * kStride)
    total += static_cast<double>(f(std::integral_constant<int, kUnroll>{}, at, kStride));
  for (; at < end; at += kStride) total += static_cast<double>(f(std::integral_constant<int, 1>{}, at, kStride));
  return block_sum<kThreads>(total, shared);
}

/// mi_b = w_b * sum of the sample's pieces; `weights` null for one weight. A warp takes a sample.
static __global__ void __launch_bounds__(128) finish_samples(const double* partial, const float* weights, float weight,
                                                             float* mi, std::int64_t samples, std::int64_t pieces) {
  const std::int64_t sample = static_cast<std::int64_t>(blockIdx.x) * 4 + threadIdx.x / 32;
  if (sample >= samples) return;
  double total = 0;
  for (std::int64_t i = threadIdx.x % 32; i < pieces; i += 32) total += partial[sample * pieces + i];
  total = warp_sum(total);
  if (threadIdx.x % 32 == 0)
    mi[sample] = static_cast<float>(static_cast<double>(weights != nullptr ? weights[sample] : weight) * total);
}

inline void finish(Device& device, const OpInfo& info, const Split& s, const double* partial, const float* weights,
                   float weight, float* mi) {
  if (!s.pieced) return;
  const auto grid = static_cast<unsigned>((s.samples + 3) / 4);
  launch_kernel(device, info, finish_samples, {.grid_x = grid, .block = 128}, partial, weights, weight, mi, s.samples,
                s.pieces);
}

}  // namespace eq::sums
