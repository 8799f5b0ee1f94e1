// Ceilings on CUDA. Copy: 16 bytes a thread and turn. Multiply: chains on registers, 256 threads a block and eight
// blocks on every multiprocessor: 24 independent multiply-adds of f32 a thread, or eight independent mma.sync m16n8k16
// of bf16 a warp. On sm_90 mma.sync does not reach what wgmma does: there the ceiling to quote is a large product's.
#include "kernels/gemm/ceiling/op.h"

#include "runtime/cuda/warp_mma.cuh"

namespace eq {

namespace {

constexpr int kThreads = 256, kBlocks = 8, kChains = 24, kMatrixChains = 8;

__global__ void __launch_bounds__(kThreads)
    copy_kernel(const uint4* from, uint4* to, std::int64_t vectors, const unsigned char* from_rest,
                unsigned char* to_rest, int rest) {
  const std::int64_t step = std::int64_t{gridDim.x} * kThreads;
  const std::int64_t first = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  for (std::int64_t i = first; i < vectors; i += step) to[i] = from[i];
  if (first < rest) to_rest[first] = from_rest[first];
}

__global__ void __launch_bounds__(kThreads) float_kernel(std::int64_t rounds, float x, float y, float* out) {
  float sum[kChains];
#pragma unroll
  for (int i = 0; i < kChains; ++i) sum[i] = static_cast<float>(i);
#pragma unroll 1
  for (std::int64_t r = 0; r < rounds; ++r) {
#pragma unroll
    for (int i = 0; i < kChains; ++i) sum[i] = fmaf(sum[i], x, y);
  }
  float total = 0.0f;
#pragma unroll
  for (int i = 0; i < kChains; ++i) total += sum[i];
  out[blockIdx.x * kThreads + threadIdx.x] = total;
}

__global__ void __launch_bounds__(kThreads) matrix_kernel(std::int64_t rounds, unsigned word, float* out) {
  // Data of no special value: operands of zeros would draw less power and run faster.
  const std::uint32_t a[4] = {word ^ threadIdx.x, word + threadIdx.x, word ^ 2 * threadIdx.x, word + 3 * threadIdx.x};
  const std::uint32_t b0 = word ^ 5 * threadIdx.x, b1 = word ^ 7 * threadIdx.x;
  float sum[kMatrixChains][4] = {};
#pragma unroll 1
  for (std::int64_t r = 0; r < rounds; ++r) {
#pragma unroll
    for (int i = 0; i < kMatrixChains; ++i) mma_bf16(sum[i], a, b0, b1);
  }
  float total = 0.0f;
#pragma unroll
  for (int i = 0; i < kMatrixChains; ++i) total += sum[i][0] + sum[i][1] + sum[i][2] + sum[i][3];
  out[blockIdx.x * kThreads + threadIdx.x] = total;
}

}  // namespace

double ceiling_flops_per_round(Device&, bool half) {
  return half ? kMatrixChains * 2.0 * 16 * 8 * 16 / 32 : 2.0 * kChains;
}
int ceiling_threads(Device& device) { return multiprocessors(device) * kBlocks * kThreads; }

void ceiling_multiply_launch(Device& device, const OpInfo& info, bool half, std::int64_t rounds, float* out) {
  const Launch launch{static_cast<unsigned>(multiprocessors(device) * kBlocks), 1, 1, kThreads};
  if (half)
    launch_kernel(device, info, matrix_kernel, launch, rounds, 0x3f803f81u, out);
  else
    launch_kernel(device, info, float_kernel, launch, rounds, 0.999f, 1e-3f, out);
}

void ceiling_copy_launch(Device& device, const OpInfo& info, const void* from, void* to, std::int64_t bytes) {
  const std::int64_t vectors = bytes / 16;
  const auto* source = static_cast<const unsigned char*>(from);
  auto* target = static_cast<unsigned char*>(to);
  const std::int64_t items = vectors > 0 ? vectors : bytes;
  launch_kernel(device, info, copy_kernel, Launch{grid_for(device, items, kThreads), 1, 1, kThreads},
                static_cast<const uint4*>(from), static_cast<uint4*>(to), vectors, source + vectors * 16,
                target + vectors * 16, static_cast<int>(bytes - vectors * 16));
}

}  // namespace eq
