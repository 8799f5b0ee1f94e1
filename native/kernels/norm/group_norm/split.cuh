// Group normalisation in passes over memory: blocks of rows leave their statistics, which a second kernel combines
// (Chan, Golub and LeVeque, 1983), and a third normalises. For samples of any size, and for the gradients.
#pragma once

#include "kernels/activation/functions.cuh"
#include "kernels/norm/column_sums.cuh"

#include "op.h"

namespace eq::group_norm_split {

using columns::kThreads;

/// Channels whose sums fit into a block's shared memory.
constexpr std::int64_t kMostChannels = 2048;

/// The rows of one block of the grid: elements first .. first + rows * C.
struct Rows {
  std::int64_t positions, per_block, blocks;
};
struct RowBlock {
  std::int64_t sample, rows, first;
};
__device__ inline RowBlock row_block(const Rows& r, std::int64_t channels, std::int64_t index) {
  const std::int64_t sample = index / r.blocks, begin = index % r.blocks * r.per_block;
  return {sample, min(r.per_block, r.positions - begin), (sample * r.positions + begin) * channels};
}
inline Rows rows_of(const GroupNormDims& d) { return {d.positions, d.block_rows(), d.blocks()}; }

/// First channel of this thread's vector in a layout.
template <int kN>
__device__ inline std::int64_t own_column(const columns::Layout& l) {
  return (static_cast<std::int64_t>(blockIdx.y) * l.vectors + threadIdx.x % l.vectors) * kN;
}

/// Leaves each group's mean over the block in the first G floats of the block's scratch, and its squared deviations
/// from it C floats further on. The second pass over the rows finds them in the caches. Needs a layout of one chunk.
template <class T>
__global__ void __launch_bounds__(kThreads, 2) block_statistics(GroupNormArgs a, Rows rows, columns::Layout layout) {
  constexpr int kN = kLanes<T>;
  __shared__ float exchange[2][columns::kThreads * kN];
  __shared__ float sums[2 * kMostChannels];
  __shared__ float means[kMostChannels];
  const std::int64_t channels = a.dims.channels, groups = a.dims.groups, width = channels / groups;
  const RowBlock block = row_block(rows, channels, blockIdx.x);
  const double count = static_cast<double>(block.rows * width);
  float* scratch = a.scratch + static_cast<std::int64_t>(blockIdx.x) * 2 * channels;
  const auto group_sum = [&](std::int64_t group) {
    double sum = 0;
    for (std::int64_t c = 0; c < width; ++c) sum += static_cast<double>(sums[group * width + c]);
    return sum;
  };
  columns::add_rows<kN>(layout, 0, block.rows, exchange, sums,
                        [&](std::int64_t row, std::int64_t column, float(&sum)[kN], float(&)[kN]) {
                          float x[kN];
                          load_at<T>(a.x, a.type, block.first + row * channels + column, x);
#pragma unroll
                          for (int i = 0; i < kN; ++i) sum[i] += x[i];
                        });
  __syncthreads();
  for (std::int64_t g = threadIdx.x; g < groups; g += blockDim.x)
    scratch[g] = means[g] = static_cast<float>(group_sum(g) / count);
  __syncthreads();
  float mean[kN];
#pragma unroll
  for (int i = 0; i < kN; ++i) mean[i] = means[min(own_column<kN>(layout) + i, channels - 1) / width];
  columns::add_rows<kN>(layout, 0, block.rows, exchange, sums,
                        [&](std::int64_t row, std::int64_t column, float(&sum)[kN], float(&)[kN]) {
                          float x[kN];
                          load_at<T>(a.x, a.type, block.first + row * channels + column, x);
#pragma unroll
                          for (int i = 0; i < kN; ++i) sum[i] += (x[i] - mean[i]) * (x[i] - mean[i]);
                        });
  __syncthreads();
  for (std::int64_t g = threadIdx.x; g < groups; g += blockDim.x)
    scratch[channels + g] = static_cast<float>(group_sum(g));
}

/// Mean and squared deviations of `count` numbers.
struct Moments {
  double count, mean, squares;
};
__device__ inline Moments combine(const Moments& a, const Moments& b) {
  const double count = a.count + b.count;
  if (count == 0) return a;
  const double delta = b.mean - a.mean;
  return {count, a.mean + delta * b.count / count, a.squares + b.squares + delta * delta * a.count * b.count / count};
}

static __global__ void __launch_bounds__(kThreads) combine_blocks(GroupNormArgs a, Rows rows) {
  const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * (kThreads / 32) + threadIdx.x / 32;
  const std::int64_t channels = a.dims.channels, groups = a.dims.groups;
  if (index >= a.dims.samples * groups) return;
  const std::int64_t sample = index / groups, group = index % groups;
  Moments all{0, 0, 0};
  for (std::int64_t b = threadIdx.x % 32; b < rows.blocks; b += 32) {
    const float* part = a.scratch + (sample * rows.blocks + b) * 2 * channels + group;
    const auto n = static_cast<double>(min(rows.per_block, rows.positions - b * rows.per_block) * (channels / groups));
    all = combine(all, {n, static_cast<double>(part[0]), static_cast<double>(part[channels])});
  }
  for (int step = 16; step > 0; step /= 2) {
    const Moments other{__shfl_xor_sync(kFullWarp, all.count, step), __shfl_xor_sync(kFullWarp, all.mean, step),
                        __shfl_xor_sync(kFullWarp, all.squares, step)};
    // The lower lane comes first, so that both get the same bits.
    all = threadIdx.x % 32 & step ? combine(other, all) : combine(all, other);
  }
  if (threadIdx.x % 32 != 0) return;
  a.mean[index] = static_cast<float>(all.mean);
  const double variance = all.count > 0 ? all.squares / all.count : 0;
  a.rstd[index] = static_cast<float>(1 / sqrt(variance + static_cast<double>(a.epsilon)));
}

/// Calls f(at) for each vector of this thread's column: `at` counts from the block's first element.
template <int kN, class F>
__device__ inline void for_own_rows(const columns::Layout& l, std::int64_t rows, F f) {
  const unsigned group = threadIdx.x / l.vectors;
  const std::int64_t column = own_column<kN>(l);
  if (group >= l.groups || column >= l.columns) return;
#pragma unroll 4
  for (std::int64_t row = group; row < rows; row += l.groups) f(row * l.columns + column);
}

template <class T, bool kSilu>
__global__ void __launch_bounds__(kThreads) normalise_blocks(GroupNormArgs a, Rows rows, columns::Layout layout) {
  constexpr int kN = kLanes<T>;
  const std::int64_t channels = a.dims.channels, groups = a.dims.groups, width = channels / groups;
  const RowBlock block = row_block(rows, channels, blockIdx.x);
  float mean[kN], scale[kN], beta[kN];
#pragma unroll
  for (int i = 0; i < kN; ++i) {
    const std::int64_t c = min(own_column<kN>(layout) + i, channels - 1), g = block.sample * groups + c / width;
    mean[i] = a.mean[g];
    scale[i] = a.rstd[g] * a.gamma[c];
    beta[i] = a.beta[c];
  }
  for_own_rows<kN>(layout, block.rows, [&](std::int64_t at) {
    float x[kN];
    load_at<T>(a.x, a.type, block.first + at, x);
#pragma unroll
    for (int i = 0; i < kN; ++i) {
      x[i] = (x[i] - mean[i]) * scale[i] + beta[i];
      if constexpr (kSilu) x[i] = swish(x[i], 1.0f);
    }
    store_at<T>(a.y, a.type, block.first + at, x);
  });
}

// Gradients.

/// What the backward pass knows of this thread's channels of one sample.
template <int kN>
struct Channels {
  float mean[kN], rstd[kN], gamma[kN], beta[kN];

  __device__ Channels(const GroupNormGradArgs& a, std::int64_t sample, std::int64_t column) {
    const std::int64_t channels = a.dims.channels, groups = a.dims.groups;
#pragma unroll
    for (int i = 0; i < kN; ++i) {
      const std::int64_t c = min(column + i, channels - 1), g = sample * groups + c / (channels / groups);
      mean[i] = a.mean[g];
      rstd[i] = a.rstd[g];
      gamma[i] = a.gamma[c];
      beta[i] = a.beta[c];
    }
  }
  /// The normalised input and the gradient before the activation.
  template <bool kSilu>
  __device__ void h_and_dz(int i, float x, float dy, float& h, float& dz) const {
    h = (x - mean[i]) * rstd[i];
    dz = kSilu ? dy * swish_derivative(h * gamma[i] + beta[i], 1.0f) : dy;
  }
};

/// Sums of dz h and of dz over a block of rows, per channel.
template <class T, bool kSilu>
__global__ void __launch_bounds__(kThreads) gradient_sums(GroupNormGradArgs a, Rows rows, columns::Layout layout) {
  constexpr int kN = kLanes<T>;
  __shared__ float exchange[2][columns::kThreads * kN];
  const RowBlock block = row_block(rows, a.dims.channels, blockIdx.x);
  const Channels<kN> c(a, block.sample, own_column<kN>(layout));
  columns::add_rows<kN>(layout, 0, block.rows, exchange,
                        a.scratch + static_cast<std::int64_t>(blockIdx.x) * 2 * a.dims.channels,
                        [&](std::int64_t row, std::int64_t column, float(&along)[kN], float(&plain)[kN]) {
                          float x[kN], dy[kN];
                          const std::int64_t at = block.first + row * a.dims.channels + column;
                          load_at<T>(a.x, a.x_type, at, x);
                          load_at<T>(a.dy, a.dy_type, at, dy);
#pragma unroll
                          for (int i = 0; i < kN; ++i) {
                            float h, dz;
                            c.template h_and_dz<kSilu>(i, x[i], dy[i], h, dz);
                            along[i] += dz * h;
                            plain[i] += dz;
                          }
                        });
}

/// Group means of g h and of g (g = dz gamma), a block per group of a sample, to means[sample, G, 2].
static __global__ void __launch_bounds__(kThreads) gradient_means(GroupNormGradArgs a, Rows rows, float* means) {
  __shared__ double shared[kThreads / 32];
  const std::int64_t channels = a.dims.channels, groups = a.dims.groups, width = channels / groups;
  const std::int64_t sample = blockIdx.x / groups, first = blockIdx.x % groups * width;
  double along = 0, plain = 0;
  for (std::int64_t i = threadIdx.x; i < rows.blocks * width; i += kThreads) {
    const std::int64_t c = first + i % width;
    const float* part = a.scratch + (sample * rows.blocks + i / width) * 2 * channels + c;
    along += static_cast<double>(part[0]) * static_cast<double>(a.gamma[c]);
    plain += static_cast<double>(part[channels]) * static_cast<double>(a.gamma[c]);
  }
  along = block_sum<kThreads>(along, shared);
  plain = block_sum<kThreads>(plain, shared);
  if (threadIdx.x != 0) return;
  const auto count = static_cast<double>(rows.positions * width);
  means[2 * static_cast<std::int64_t>(blockIdx.x)] = static_cast<float>(along / count);
  means[2 * static_cast<std::int64_t>(blockIdx.x) + 1] = static_cast<float>(plain / count);
}

template <class T, bool kSilu>
__global__ void __launch_bounds__(kThreads)
    gradient_blocks(GroupNormGradArgs a, Rows rows, columns::Layout layout, const float* means) {
  constexpr int kN = kLanes<T>;
  const std::int64_t channels = a.dims.channels, groups = a.dims.groups, width = channels / groups;
  const RowBlock block = row_block(rows, channels, blockIdx.x);
  const Channels<kN> c(a, block.sample, own_column<kN>(layout));
  float mean_gh[kN], mean_g[kN];
#pragma unroll
  for (int i = 0; i < kN; ++i) {
    const std::int64_t g = block.sample * groups + min(own_column<kN>(layout) + i, channels - 1) / width;
    mean_gh[i] = means[2 * g];
    mean_g[i] = means[2 * g + 1];
  }
  for_own_rows<kN>(layout, block.rows, [&](std::int64_t at) {
    float x[kN], dy[kN];
    load_at<T>(a.x, a.x_type, block.first + at, x);
    load_at<T>(a.dy, a.dy_type, block.first + at, dy);
#pragma unroll
    for (int i = 0; i < kN; ++i) {
      float h, dz;
      c.template h_and_dz<kSilu>(i, x[i], dy[i], h, dz);
      x[i] = c.rstd[i] * (dz * c.gamma[i] - mean_g[i] - h * mean_gh[i]);
    }
    store_at<T>(a.dx, a.x_type, block.first + at, x);
  });
}

}  // namespace eq::group_norm_split
