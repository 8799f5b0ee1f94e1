// Softmax of rows, read twice: once for the greatest element and the sum of exponentials together (M. Milakov and
// N. Gimelshein, "Online normalizer calculation for softmax", 2018), once, from cache, to write the result.
// n * (size + 4) bytes of device memory; two exponentials an element.
//
//   lanes   rows of up to 1024: 1 to 32 threads a row, so that a block has 8 rows or more.
//   rows    longer ones: a block a row.
//
// 256 threads; packets of eight where rows are aligned; 64 bytes of shared memory.
#include "kernels/packet.cuh"
#include "op.h"
#include "runtime/cuda/reduce.cuh"

namespace eq {

namespace {

constexpr int kThreads = 256;

/// The greatest element and sum of e^(x - max) of some elements; none: -infinity and 0.
struct Normalizer {
  float max, sum;
};
__device__ inline Normalizer join(Normalizer a, Normalizer b) {
  if (b.max > a.max) {
    const Normalizer c = a;
    a = b;
    b = c;
  }
  // Where both are -infinity their sums are 0, or NaN, which must stay.
  a.sum += b.max == -INFINITY ? b.sum : b.sum * expf(b.max - a.max);
  return a;
}

/// Elements of one thread: every `threads`-th packet, or element where rows are not aligned (kWidth 1). NaN is no
/// maximum but makes the sum NaN; infinity makes it NaN too, as e^(x - max) is then for x = infinity.
template <int kWidth>
__device__ inline Normalizer normalize(const SoftmaxArgs& a, std::int64_t row, int thread, int threads) {
  Normalizer n{-INFINITY, 0};
  for (std::int64_t i = static_cast<std::int64_t>(thread) * kWidth; i < a.columns;
       i += static_cast<std::int64_t>(threads) * kWidth) {
    float x[kPacket];
    if constexpr (kWidth == kPacket)
      unpack(load_packet(a.x, a.x_type, row * a.columns + i), a.x_type, x);
    else
      x[0] = load_one<float>(a.x, a.x_type, row * a.columns + i);
    float max = n.max;
#pragma unroll
    for (int j = 0; j < kWidth; ++j) max = max < x[j] ? x[j] : max;
    n.sum = n.max == -INFINITY ? n.sum : n.sum * expf(n.max - max);
    n.max = max;
#pragma unroll
    for (int j = 0; j < kWidth; ++j)
      if (x[j] != -INFINITY) n.sum += expf(x[j] - max);
  }
  return n;
}

template <int kWidth>
__device__ inline void write_row(const SoftmaxArgs& a, std::int64_t row, Normalizer n, int thread, int threads) {
  const float scale = 1.0f / n.sum;
  for (std::int64_t i = static_cast<std::int64_t>(thread) * kWidth; i < a.columns;
       i += static_cast<std::int64_t>(threads) * kWidth) {
    const std::int64_t at = row * a.columns + i;
    if constexpr (kWidth == kPacket) {
      float x[kPacket];
      unpack(load_packet(a.x, a.x_type, at), a.x_type, x);
#pragma unroll
      for (int j = 0; j < kPacket; ++j) x[j] = expf(x[j] - n.max) * scale;
      store_packet(a.y, DType::F32, at, x);
    } else {
      a.y[at] = expf(load_one<float>(a.x, a.x_type, at) - n.max) * scale;
    }
  }
}

template <int kWidth>
__global__ __launch_bounds__(kThreads) void softmax_lanes(const SoftmaxArgs a, const int lanes) {
  const int lane = threadIdx.x % lanes, rows_here = kThreads / lanes;
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * rows_here;
  // All threads of a warp go round equally often: they meet in the shuffles.
  for (std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * rows_here; first < a.rows; first += stride) {
    const std::int64_t row = first + threadIdx.x / lanes;
    Normalizer n{-INFINITY, 0};
    if (row < a.rows) n = normalize<kWidth>(a, row, lane, lanes);
    for (int step = lanes / 2; step > 0; step /= 2)
      n = join(n, {__shfl_xor_sync(kFullWarp, n.max, step), __shfl_xor_sync(kFullWarp, n.sum, step)});
    if (row < a.rows) write_row<kWidth>(a, row, n, lane, lanes);
  }
}

template <int kWidth>
__global__ __launch_bounds__(kThreads) void softmax_rows(const SoftmaxArgs a) {
  constexpr int kWarps = kThreads / 32;
  __shared__ float maxima[kWarps], sums[kWarps];
  for (std::int64_t row = blockIdx.x; row < a.rows; row += gridDim.x) {
    Normalizer n = normalize<kWidth>(a, row, threadIdx.x, kThreads);
#pragma unroll
    for (int step = 16; step > 0; step /= 2)
      n = join(n, {__shfl_xor_sync(kFullWarp, n.max, step), __shfl_xor_sync(kFullWarp, n.sum, step)});
    if (threadIdx.x % 32 == 0) {
      maxima[threadIdx.x / 32] = n.max;
      sums[threadIdx.x / 32] = n.sum;
    }
    __syncthreads();
    n = {maxima[0], sums[0]};
#pragma unroll
    for (int w = 1; w < kWarps; ++w) n = join(n, {maxima[w], sums[w]});
    __syncthreads();
    write_row<kWidth>(a, row, n, threadIdx.x, kThreads);
  }
}

}  // namespace

void softmax_launch(Device& device, const OpInfo& info, const SoftmaxArgs& a) {
  if (a.columns == 0 || a.rows == 0) return;
  const bool packed = a.columns % kPacket == 0 && packets_fit(a.x, a.x_type) && packets_fit(a.y, DType::F32);
  if (a.columns > 1024)
    return launch_kernel(device, info, packed ? softmax_rows<kPacket> : softmax_rows<1>,
                         {.grid_x = grid_for(device, a.rows, 1, 32), .block = kThreads}, a);
  int lanes = 1;
  while (lanes < 32 && lanes * (packed ? kPacket : 4) < a.columns) lanes *= 2;
  launch_kernel(device, info, packed ? softmax_lanes<kPacket> : softmax_lanes<1>,
                {.grid_x = grid_for(device, a.rows, kThreads / lanes, 32), .block = kThreads}, a, lanes);
}

}  // namespace eq
