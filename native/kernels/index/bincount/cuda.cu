// Counts: integer atomics, in shared memory first where the bins of a row fit there; n * 4 bytes read and the bins
// written. Weighted sums of f32: ordered updates (ordered.cuh), so that equal input gives equal bits.
// Negative values are reported and left out.
#include "kernels/index/ordered.cuh"
#include "op.h"

namespace eq {

namespace {

constexpr int kThreads = 256, kSharedBins = 8192;
constexpr std::int64_t kChunk = 16 * kThreads;

/// A block takes kChunk values of one row at a time. `one` is what binary counts put into a bin: 1 as i32 or f32.
__global__ __launch_bounds__(kThreads) void count_kernel(const BincountArgs a, const std::int64_t chunks,
                                                         const bool in_shared, const unsigned one, const Fault fault) {
  auto* bins = dynamic_shared<unsigned>();
  for (std::int64_t u = blockIdx.x; u < a.rows * chunks; u += gridDim.x) {
    const std::int64_t row = u / chunks, begin = u % chunks * kChunk;
    const std::int64_t end = begin + kChunk < a.columns ? begin + kChunk : a.columns;
    auto* y = static_cast<unsigned*>(a.y) + row * a.bins;
    unsigned* to = in_shared ? bins : y;
    if (in_shared) {
      for (int b = threadIdx.x; b < a.bins; b += kThreads) bins[b] = 0;
      __syncthreads();
    }
    for (std::int64_t i = begin + threadIdx.x; i < end; i += kThreads) {
      const std::int32_t value = __ldg(a.x + row * a.columns + i);
      if (value < 0) raise(fault, row * a.columns + i, value);
      if (value < 0 || value >= a.bins) continue;
      if (a.binary)
        atomicExch(to + value, one);
      else
        atomicAdd(to + value, 1u);
    }
    if (!in_shared) continue;
    __syncthreads();
    for (int b = threadIdx.x; b < a.bins; b += kThreads) {
      if (bins[b] == 0) continue;
      if (a.binary)
        atomicExch(y + b, one);
      else
        atomicAdd(y + b, bins[b]);
    }
    __syncthreads();
  }
}

__global__ __launch_bounds__(kOrderedThreads, 4) void weight_kernel(const BincountArgs a,
                                                                    const __grid_constant__ Ordered o,
                                                                    const IndexDivisor by_columns, const Fault fault) {
  apply_in_order(
      o,
      [&](std::int64_t i) -> std::int64_t {
        const std::int32_t value = __ldg(a.x + i);
        if (value < 0) raise(fault, i, value);
        if (value < 0 || value >= a.bins) return -1;
        std::int64_t column = i;
        return by_columns.divide(column) * a.bins + value;
      },
      [&](std::int64_t bin, std::int64_t i, std::int64_t) { static_cast<float*>(a.y)[bin] += __ldg(a.weights + i); });
}

}  // namespace

void bincount_launch(Device& device, const OpInfo& info, const BincountArgs& args) {
  const std::int64_t n = args.rows * args.columns;
  if (n == 0) return;
  const Fault fault = fault_site(device, info, "Input x must be non-negative, x[%] is %");
  if (args.weights && !args.binary) {
    const Ordered o = make_ordered(device, n, args.rows * args.bins, 1);
    return launch_kernel(device, info, weight_kernel, ordered_grid(o), args, o, IndexDivisor(args.columns, n), fault);
  }
  const std::int64_t chunks = (args.columns + kChunk - 1) / kChunk;
  const bool in_shared = args.bins <= kSharedBins;
  launch_kernel(device, info, count_kernel,
                {.grid_x = grid_for(device, args.rows * chunks, 1, 8),
                 .block = kThreads,
                 .shared = in_shared ? static_cast<unsigned>(args.bins) * 4u : 0u},
                args, chunks, in_shared, args.weights ? 0x3f800000u : 1u, fault);
}

}  // namespace eq
