// Sums over rows that give the gradients of a norm's parameters, as column_sums.h: blocks of rows leave partial sums
// [blocks, 2, C], and each channel adds up its blocks in double, in one order.
#pragma once

#include "runtime/cuda/reduce.cuh"
#include "runtime/cuda/storage.cuh"

#include <algorithm>

namespace eq::columns {

constexpr int kThreads = 256;

/// How a thread block lies over the columns: `groups` rows at a time, `vectors` vectors of each. Wide rows are cut into
/// `chunks` of equal width (gridDim.y).
struct Layout {
  std::int64_t columns;
  unsigned vectors, groups, chunks;

  Launch launch(std::int64_t blocks) const {
    return {.grid_x = static_cast<unsigned>(blocks), .grid_y = chunks, .block = (vectors * groups + 31) / 32 * 32};
  }
};

inline Layout layout(std::int64_t columns, int lanes) {
  const std::int64_t vectors = (columns + lanes - 1) / lanes;
  const std::int64_t chunks = (vectors + kThreads - 1) / kThreads;
  const std::int64_t width = (vectors + chunks - 1) / chunks;
  return {columns, static_cast<unsigned>(width), static_cast<unsigned>(std::max<std::int64_t>(1, kThreads / width)),
          static_cast<unsigned>(chunks)};
}

/// out[0][c] and out[1][c] become two sums over the rows begin .. end: f(row, column, first, second) adds kN columns of
/// a row to both. For all threads of a block; rows of a group are added in float, and the groups in order. `sums` is
/// shared memory, free again when the call returns; `out` may be any memory and is seen by others after a barrier.
template <int kN, class F>
__device__ inline void add_rows(const Layout& l, std::int64_t begin, std::int64_t end, float (&sums)[2][kThreads * kN],
                                float* out, F f) {
  const unsigned vector = threadIdx.x % l.vectors, group = threadIdx.x / l.vectors;
  const std::int64_t column = (static_cast<std::int64_t>(blockIdx.y) * l.vectors + vector) * kN;
  const bool inside = group < l.groups && column < l.columns;
  float first[kN] = {}, second[kN] = {};
  if (inside) {
#pragma unroll 4
    for (std::int64_t row = begin + group; row < end; row += l.groups) f(row, column, first, second);
  }
  if (l.groups > 1) {
    if (inside) {
      // Groups lie a row of vectors apart; lane i of all threads lies together, free of bank conflicts.
#pragma unroll
      for (int i = 0; i < kN; ++i) {
        sums[0][i * kThreads + threadIdx.x] = first[i];
        sums[1][i * kThreads + threadIdx.x] = second[i];
      }
    }
    __syncthreads();
    if (inside && group == 0) {
      for (unsigned g = 1; g < l.groups; ++g) {
#pragma unroll
        for (int i = 0; i < kN; ++i) {
          first[i] += sums[0][i * kThreads + g * l.vectors + vector];
          second[i] += sums[1][i * kThreads + g * l.vectors + vector];
        }
      }
    }
    __syncthreads();
  }
  if (!inside || group != 0) return;
#pragma unroll
  for (int i = 0; i < kN; ++i) {
    out[column + i] = first[i];
    out[l.columns + column + i] = second[i];
  }
}

/// partial [blocks, 2, C]: two sums over each block of `block_rows` of the rows, a block of threads for each; f as
/// above.
template <int kN, class F>
__device__ inline void add_block(const Layout& l, std::int64_t rows, std::int64_t block_rows, float* partial, F f) {
  __shared__ float sums[2][kThreads * kN];
  const std::int64_t block = blockIdx.x, begin = block * block_rows;
  add_rows<kN>(l, begin, min(begin + block_rows, rows), sums, partial + block * 2 * l.columns, f);
}

/// 32 columns of 32 groups of blocks.
constexpr int kSumThreads = 1024;

/// Sums of one column of partial [blocks, 2, C] over the blocks, on the threads of group 0 (threadIdx.x < 32); for all
/// threads of a block of kSumThreads.
struct ColumnSums {
  double first, second;
};
__device__ inline ColumnSums sum_blocks(const float* partial, std::int64_t blocks, std::int64_t columns,
                                        std::int64_t column) {
  __shared__ double sums[2][32][33];
  const unsigned group = threadIdx.x / 32, lane = threadIdx.x % 32;
  double first = 0, second = 0;
  if (column < columns) {
#pragma unroll 4
    for (std::int64_t b = group; b < blocks; b += 32) {
      first += static_cast<double>(partial[2 * b * columns + column]);
      second += static_cast<double>(partial[(2 * b + 1) * columns + column]);
    }
  }
  sums[0][group][lane] = first;
  sums[1][group][lane] = second;
  __syncthreads();
  // A warp adds up one column: lane g holds group g.
  first = warp_sum(sums[0][lane][group]);
  second = warp_sum(sums[1][lane][group]);
  __syncthreads();
  if (lane == 0) {
    sums[0][0][group] = first;
    sums[1][0][group] = second;
  }
  __syncthreads();
  return {sums[0][0][lane], sums[1][0][lane]};
}

static __global__ void __launch_bounds__(kSumThreads)
    add_blocks_kernel(const float* partial, std::int64_t blocks, std::int64_t columns, float* first, float* second) {
  const std::int64_t column = static_cast<std::int64_t>(blockIdx.x) * 32 + threadIdx.x % 32;
  const ColumnSums sums = sum_blocks(partial, blocks, columns, column);
  if (threadIdx.x >= 32 || column >= columns) return;
  first[column] = static_cast<float>(sums.first);
  second[column] = static_cast<float>(sums.second);
}

/// first[c] and second[c]: the sums over blocks of partial[.][0][c] and partial[.][1][c].
inline void add_blocks(Device& device, const OpInfo& info, const float* partial, std::int64_t blocks,
                       std::int64_t columns, float* first, float* second) {
  const auto grid = static_cast<unsigned>((columns + 31) / 32);
  launch_kernel(device, info, add_blocks_kernel, {.grid_x = grid, .block = kSumThreads}, partial, blocks, columns,
                first, second);
}

}  // namespace eq::columns
