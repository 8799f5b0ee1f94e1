// Group normalisation and its gradient that read their inputs once: a block, or on sm_90 a cluster of up to eight,
// keeps some neighbouring groups of a sample (a slab of channels, all positions) in shared memory from the load to the
// store.
//
//   slab of L groups, S = L C/G channels: rows of S elements, a multiple of 16 bytes, cut out of rows of C
//   cluster of Q blocks: each holds P / Q positions; their means and squared deviations are combined over the cluster
//
// 64 x 64 x 320 in bf16, G = 32: L = 8, rows of 160 bytes, Q = 8, 80 KB a block, two blocks a multiprocessor.
#pragma once

#include "kernels/activation/functions.cuh"
#include "runtime/cuda/cluster.cuh"
#include "runtime/cuda/reduce.cuh"
#include "runtime/cuda/vec.cuh"
#include "runtime/cuda/warp_mma.cuh"

#include "op.h"

#include <algorithm>

namespace eq::group_norm_resident {

constexpr int kThreads = 512;
constexpr int kWarps = kThreads / 32;
/// What a kernel has beside its dynamic shared memory, generously.
constexpr std::int64_t kFixedBytes = 5 << 10;
/// Groups of a slab, at most.
constexpr unsigned kMostGroups = 32;

/// Channels of a thread in the gradient's second pass: five numbers for each stay in registers.
constexpr int kGradLanes = 4;

struct Slab {
  /// Groups and channels of a slab, channels of a group, slabs of a sample.
  unsigned groups, width, group_width, slabs;
  /// Vectors of 16 bytes in a row, and rows that the block's threads move together.
  unsigned vectors, row_step;
  /// Positions of a sample and of a block.
  std::int64_t positions, rows;
};

/// At the beginning of a block's dynamic shared memory, by group: what other blocks of the cluster read (mean and
/// squares, along and plain), and what is kept across its barriers.
struct __align__(16) Statistics {
  float mean[kMostGroups], squares[kMostGroups], all_mean[kMostGroups], all_rstd[kMostGroups];
};
struct __align__(16) GradStatistics {
  float mean[kMostGroups], rstd[kMostGroups], along[kMostGroups], plain[kMostGroups], all_along[kMostGroups],
      all_plain[kMostGroups];
};

struct Plan {
  Slab slab;
  unsigned cluster = 0, shared = 0;
  bool fits() const { return cluster != 0; }
};

/// Rates a way to cut: full memory sectors, two blocks to a multiprocessor (one loads while the other stores), every
/// multiprocessor busy, tiles worth a block's start, small clusters.
inline double rate(Device& device, const GroupNormDims& d, const Slab& s, unsigned cluster, std::int64_t shared,
                   std::int64_t row_bytes) {
  const std::int64_t processors = multiprocessors(device);
  const auto blocks = static_cast<double>(d.samples * s.slabs * cluster);
  const double sectors = static_cast<double>(row_bytes) / (row_bytes % 32 == 0 ? row_bytes : (row_bytes / 32 + 1) * 32);
  const double pairs = 2 * (shared + kFixedBytes) <= most_shared(device, 0) ? 1 : 0.7;
  const double busy = std::min(1.0, blocks / static_cast<double>(2 * processors));
  const double worth = 0.5 + 0.5 * std::min(1.0, static_cast<double>(shared) / (16 << 10));
  return sectors * pairs * (0.2 + 0.8 * busy) * worth / (1 + 0.02 * cluster);
}

/// The best way to keep x, or x, dy and the channels' parameters of a sample resident, if any.
inline Plan make_plan(Device& device, const GroupNormDims& d, std::size_t element, bool gradient) {
  Plan best;
  double best_rate = 0;
  const std::int64_t most = most_shared(device, kFixedBytes);
  const unsigned clusters = has_clusters(device) ? 8 : 1;
  const auto size = static_cast<std::int64_t>(element);
  if (d.positions < 1 || d.channels > (1 << 20)) return best;
  for (unsigned groups = 1; groups <= kMostGroups && d.groups % groups == 0; groups *= 2) {
    const std::int64_t width = groups * d.per_group(), vectors = width * size / 16;
    if (width * size % 16 != 0 || (gradient ? width / kGradLanes : vectors) > kThreads) continue;
    for (unsigned cluster = 1; cluster <= clusters; cluster *= 2) {
      const std::int64_t rows = (d.positions + cluster - 1) / cluster, tile = rows * width * size;
      const auto statistics = static_cast<std::int64_t>(gradient ? sizeof(GradStatistics) : sizeof(Statistics));
      const std::int64_t shared =
          statistics + (gradient ? 2 * tile + 2 * width * static_cast<std::int64_t>(sizeof(float)) : tile);
      const std::int64_t slabs = d.groups / groups;
      if (shared > most || d.samples * slabs * cluster > 0x7fffffff) continue;
      // Small tiles are not worth a cluster's barriers; half-used sectors of large ones not the spared pass.
      if ((cluster > 1 && tile < (8 << 10)) || (width * size < 32 && tile > (32 << 10))) continue;
      const Slab slab{groups,
                      static_cast<unsigned>(width),
                      static_cast<unsigned>(d.per_group()),
                      static_cast<unsigned>(slabs),
                      static_cast<unsigned>(vectors),
                      static_cast<unsigned>(kThreads / vectors),
                      d.positions,
                      rows};
      const double rated = rate(device, d, slab, cluster, shared, width * size);
      if (rated <= best_rate) continue;
      best_rate = rated;
      best = {slab, cluster, static_cast<unsigned>(shared)};
    }
  }
  return best;
}

/// What a block works on.
struct Work {
  std::int64_t sample, rows, first_element;
  unsigned rank, first_channel;
};
template <int kCluster>
__device__ inline Work find_work(const Slab& s, std::int64_t channels) {
  const unsigned rank = blockIdx.x % kCluster, item = blockIdx.x / kCluster;
  const std::int64_t sample = item / s.slabs, begin = rank * s.rows;
  const std::int64_t rows = max(std::int64_t{0}, min(s.rows, s.positions - begin));
  const unsigned first_channel = item % s.slabs * s.width;
  return {sample, rows, (sample * s.positions + begin) * channels + first_channel, rank, first_channel};
}

/// Starts copying the block's rows to `tile`; a thread moves the vector of one column from row to row.
template <class T>
__device__ inline void load_tile(const Slab& s, const Work& w, std::int64_t channels, const void* x, T* tile) {
  const unsigned vector = threadIdx.x % s.vectors, first = threadIdx.x / s.vectors;
  const auto* from = static_cast<const T*>(x) + w.first_element + vector * kVector<T>;
  if (first < s.row_step)
    for (std::int64_t row = first; row < w.rows; row += s.row_step)
      copy_async(tile + row * s.width + vector * kVector<T>, from + row * channels, 16);
}

/// Calls f(i) for the channels of this thread's group (threadIdx.x % groups) in every row the thread takes: element i
/// of the tile, two at a time where a word holds two. Neighbouring threads start at different channels and so read from
/// different banks.
template <int kPair, class F>
__device__ inline void for_group_rows(const Slab& s, std::int64_t rows, F f) {
  const unsigned group = threadIdx.x % s.groups, count = s.group_width / kPair;
  for (std::int64_t row = threadIdx.x / s.groups; row < rows; row += kThreads / s.groups) {
    unsigned at = threadIdx.x % 32 % count;
    for (unsigned i = 0; i < count; ++i) {
      f(row * s.width, group * s.group_width + at * kPair);
      at = at + 1 == count ? 0 : at + 1;
    }
  }
}

/// Adds up each group's values of all threads, to sums[group].
__device__ inline void add_threads(const Slab& s, float value, float (*partial)[32], double* sums) {
  const unsigned lane = threadIdx.x % 32;
  for (unsigned step = 16; step >= s.groups; step /= 2) value += __shfl_xor_sync(kFullWarp, value, step);
  if (lane < s.groups) partial[threadIdx.x / 32][lane] = value;
  __syncthreads();
  if (threadIdx.x < s.groups) {
    double total = 0;
#pragma unroll
    for (int warp = 0; warp < kWarps; ++warp) total += static_cast<double>(partial[warp][threadIdx.x]);
    sums[threadIdx.x] = total;
  }
  __syncthreads();
}

/// Whether a word holds two channels of one group, as 16-bit storage of groups of even width.
template <class T>
__device__ inline bool in_pairs(const Slab& s) {
  return sizeof(T) == 2 && s.group_width % 2 == 0;
}
__device__ inline std::uint32_t pair_at(const void* tile, std::int64_t i) {
  return static_cast<const std::uint32_t*>(tile)[i / 2];
}

/// Sums over the block's rows of f(x), by group.
template <class T, class F>
__device__ inline void group_sums(const Slab& s, const T* tile, std::int64_t rows, float (*partial)[32], double* sums,
                                  F f) {
  const unsigned group = threadIdx.x % s.groups;
  float sum = 0;
  if (in_pairs<T>(s))
    for_group_rows<2>(s, rows, [&](std::int64_t row, unsigned c) {
      const std::uint32_t x = pair_at(tile, row + c);
      sum += f(low_bf16(x), group) + f(high_bf16(x), group);
    });
  else
    for_group_rows<1>(s, rows, [&](std::int64_t row, unsigned c) { sum += f(to_float(tile[row + c]), group); });
  add_threads(s, sum, partial, sums);
}

/// Combines mean and squared deviations of the cluster's blocks, in their order: for one group, on one thread.
template <int kCluster>
__device__ inline void combine(const Slab& s, const float* mean, const float* squares, double& all_mean,
                               double& variance) {
  double count = 0, sum = 0;
  all_mean = 0;
  for (unsigned rank = 0; rank < kCluster; ++rank) {
    const std::int64_t rows = max(std::int64_t{0}, min(s.rows, s.positions - rank * s.rows));
    if (rows == 0) continue;
    const auto n = static_cast<double>(rows * s.group_width);
    const double delta = static_cast<double>(cluster_read<kCluster>(mean, rank)) - all_mean;
    sum += static_cast<double>(cluster_read<kCluster>(squares, rank)) + delta * delta * count * n / (count + n);
    all_mean += delta * n / (count + n);
    count += n;
  }
  variance = sum / count;
}

template <class T, bool kSilu, int kCluster>
EQ_CLUSTER(kCluster)
__global__ void __launch_bounds__(kThreads, 2) normalise_slabs(GroupNormArgs a, Slab s) {
  constexpr int kN = kVector<T>;
  __shared__ float partial[kWarps][32];
  __shared__ double sums[32];
  auto* const statistics = dynamic_shared<Statistics>();
  float *const mean = statistics->mean, *const squares = statistics->squares, *const all_mean = statistics->all_mean,
               *const all_rstd = statistics->all_rstd;
  T* tile = reinterpret_cast<T*>(statistics + 1);
  const std::int64_t channels = a.dims.channels;
  const Work work = find_work<kCluster>(s, channels);
  load_tile(s, work, channels, a.x, tile);
  copy_commit();
  copy_wait<0>();
  __syncthreads();
  const auto count = static_cast<double>(max(std::int64_t{1}, work.rows) * s.group_width);
  group_sums(s, tile, work.rows, partial, sums, [](float x, unsigned) { return x; });
  if (threadIdx.x < s.groups) mean[threadIdx.x] = static_cast<float>(sums[threadIdx.x] / count);
  __syncthreads();
  group_sums(s, tile, work.rows, partial, sums,
             [mean](float x, unsigned group) { return (x - mean[group]) * (x - mean[group]); });
  if (threadIdx.x < s.groups) squares[threadIdx.x] = static_cast<float>(sums[threadIdx.x]);
  cluster_barrier<kCluster>();
  if (threadIdx.x < s.groups) {
    double together, variance;
    combine<kCluster>(s, mean + threadIdx.x, squares + threadIdx.x, together, variance);
    all_mean[threadIdx.x] = static_cast<float>(together);
    all_rstd[threadIdx.x] = static_cast<float>(1 / sqrt(variance + static_cast<double>(a.epsilon)));
    if (work.rank == 0) {
      const std::int64_t group = work.sample * a.dims.groups + work.first_channel / s.group_width + threadIdx.x;
      a.mean[group] = all_mean[threadIdx.x];
      a.rstd[group] = all_rstd[threadIdx.x];
    }
  }
  // Also: no block leaves while others read its shared memory.
  cluster_barrier<kCluster>();
  const unsigned vector = threadIdx.x % s.vectors, first = threadIdx.x / s.vectors;
  if (first >= s.row_step) return;
  float centre[kN], scale[kN], beta[kN];
#pragma unroll
  for (int i = 0; i < kN; ++i) {
    const unsigned c = vector * kN + i, group = c / s.group_width;
    centre[i] = all_mean[group];
    scale[i] = all_rstd[group] * a.gamma[work.first_channel + c];
    beta[i] = a.beta[work.first_channel + c];
  }
  auto* to = static_cast<T*>(a.y) + work.first_element + vector * kN;
#pragma unroll 2
  for (std::int64_t row = first; row < work.rows; row += s.row_step) {
    float x[kN];
    load_vector(tile + row * s.width + vector * kN, x);
#pragma unroll
    for (int i = 0; i < kN; ++i) {
      x[i] = (x[i] - centre[i]) * scale[i] + beta[i];
      if constexpr (kSilu) x[i] = swish(x[i], 1.0f);
    }
    store_vector(to + row * channels, x);
  }
}

// The gradient of x. With m, r the group's statistics and z = (x - m) r gamma + beta:
//   dz = dy or dy silu'(z);  dx = dz r gamma - r mean(g) - (x - m) r^2 mean(g h)

template <bool kSilu>
__device__ inline float before_activation(float dy, float z) {
  return kSilu ? dy * swish_derivative(z, 1.0f) : dy;
}

template <class T, bool kSilu, int kCluster>
EQ_CLUSTER(kCluster)
__global__ void __launch_bounds__(kThreads, 2) differentiate_slabs(GroupNormGradArgs a, Slab s) {
  __shared__ float partial[kWarps][32];
  __shared__ double sums[32];
  const std::int64_t channels = a.dims.channels;
  const Work work = find_work<kCluster>(s, channels);
  auto* const statistics = dynamic_shared<GradStatistics>();
  float *const mean = statistics->mean, *const rstd = statistics->rstd, *const along = statistics->along,
               *const plain = statistics->plain, *const all_along = statistics->all_along,
               *const all_plain = statistics->all_plain;
  T* x = reinterpret_cast<T*>(statistics + 1);
  T* dy = x + s.rows * s.width;
  // r gamma and beta of the slab's channels.
  auto* scale = reinterpret_cast<float*>(dy + s.rows * s.width);
  float* beta = scale + s.width;
  load_tile(s, work, channels, a.x, x);
  load_tile(s, work, channels, a.dy, dy);
  copy_commit();
  const std::int64_t first_group = work.sample * a.dims.groups + work.first_channel / s.group_width;
  if (threadIdx.x < s.groups) {
    mean[threadIdx.x] = a.mean[first_group + threadIdx.x];
    rstd[threadIdx.x] = a.rstd[first_group + threadIdx.x];
  }
  for (unsigned c = threadIdx.x; c < s.width; c += kThreads) {
    scale[c] = a.rstd[first_group + c / s.group_width] * a.gamma[work.first_channel + c];
    beta[c] = a.beta[work.first_channel + c];
  }
  copy_wait<0>();
  __syncthreads();
  // Sums of g r and of g r (x - m): the factors of r are taken out of the group's means below.
  float sum = 0, dot = 0;
  const float centre = mean[threadIdx.x % s.groups];
  const auto add = [&](float value, float up, unsigned c) {
    const float g = before_activation<kSilu>(up, (value - centre) * scale[c] + beta[c]) * scale[c];
    sum += g;
    dot += g * (value - centre);
  };
  if (in_pairs<T>(s))
    for_group_rows<2>(s, work.rows, [&](std::int64_t row, unsigned c) {
      const std::uint32_t values = pair_at(x, row + c), ups = pair_at(dy, row + c);
      add(low_bf16(values), low_bf16(ups), c);
      add(high_bf16(values), high_bf16(ups), c + 1);
    });
  else
    for_group_rows<1>(s, work.rows,
                      [&](std::int64_t row, unsigned c) { add(to_float(x[row + c]), to_float(dy[row + c]), c); });
  add_threads(s, sum, partial, sums);
  if (threadIdx.x < s.groups) plain[threadIdx.x] = static_cast<float>(sums[threadIdx.x]);
  __syncthreads();
  add_threads(s, dot, partial, sums);
  if (threadIdx.x < s.groups) along[threadIdx.x] = static_cast<float>(sums[threadIdx.x]);
  cluster_barrier<kCluster>();
  if (threadIdx.x < s.groups) {
    double plain_sum = 0, along_sum = 0;
    for (unsigned rank = 0; rank < kCluster; ++rank) {
      plain_sum += static_cast<double>(cluster_read<kCluster>(plain + threadIdx.x, rank));
      along_sum += static_cast<double>(cluster_read<kCluster>(along + threadIdx.x, rank));
    }
    const auto count = static_cast<double>(s.positions * s.group_width), r = static_cast<double>(rstd[threadIdx.x]);
    all_plain[threadIdx.x] = static_cast<float>(plain_sum / count);
    all_along[threadIdx.x] = static_cast<float>(along_sum * r * r / count);
  }
  // Also: no block leaves while others read its shared memory.
  cluster_barrier<kCluster>();
  const unsigned vectors = s.width / kGradLanes, row_step = kThreads / vectors;
  const unsigned vector = threadIdx.x % vectors, first = threadIdx.x / vectors;
  if (first >= row_step) return;
  float m[kGradLanes], own_scale[kGradLanes], own_beta[kGradLanes], own_plain[kGradLanes], own_along[kGradLanes];
#pragma unroll
  for (int i = 0; i < kGradLanes; ++i) {
    const unsigned c = vector * kGradLanes + i, group = c / s.group_width;
    m[i] = mean[group];
    own_scale[i] = scale[c];
    own_beta[i] = beta[c];
    own_plain[i] = all_plain[group];
    own_along[i] = all_along[group];
  }
  auto* to = static_cast<T*>(a.dx) + work.first_element + vector * kGradLanes;
#pragma unroll 2
  for (std::int64_t row = first; row < work.rows; row += row_step) {
    float values[kGradLanes], ups[kGradLanes];
    load_vector(x + row * s.width + vector * kGradLanes, values);
    load_vector(dy + row * s.width + vector * kGradLanes, ups);
#pragma unroll
    for (int i = 0; i < kGradLanes; ++i) {
      const float centred = values[i] - m[i];
      const float dz = before_activation<kSilu>(ups[i], centred * own_scale[i] + own_beta[i]);
      values[i] = dz * own_scale[i] - own_plain[i] - centred * own_along[i];
    }
    store_vector(to + row * channels, values);
  }
}

}  // namespace eq::group_norm_resident
