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

/// Channels of a thread in the gradient: five numbers for each stay in registers.
constexpr int kGradLanes = 4;

struct Slab {
  /// Groups and channels of a slab, channels of a group, slabs of a sample.
  unsigned groups, width, group_width, slabs;
  /// Vectors of a row (16 bytes; kGradLanes channels), rows that the block's threads take together, and groups that the
  /// channels of one vector belong to, at most.
  unsigned vectors, row_step, spans;
  /// Positions of a sample and of a block.
  std::int64_t positions, rows;
};

/// At the beginning of a block's dynamic shared memory, by group: what other blocks of the cluster read (mean and
/// squares, along and plain), and what is kept across its barriers.
struct __align__(16) Statistics {
  float mean[kMostGroups], squares[kMostGroups], all_mean[kMostGroups], all_rstd[kMostGroups];
};
struct __align__(16) GradStatistics {
  float along[kMostGroups], plain[kMostGroups], all_along[kMostGroups], all_plain[kMostGroups];
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

/// The best way to keep x, or x and dy of a sample resident, if any.
inline Plan make_plan(Device& device, const GroupNormDims& d, std::size_t element, bool gradient) {
  Plan best;
  double best_rate = 0;
  const std::int64_t most = most_shared(device, kFixedBytes);
  const unsigned clusters = has_clusters(device) ? 8 : 1;
  const auto size = static_cast<std::int64_t>(element);
  if (d.positions < 1 || d.channels > (1 << 20)) return best;
  for (unsigned groups = 1; groups <= kMostGroups && d.groups % groups == 0; groups *= 2) {
    const std::int64_t width = groups * d.per_group(), lanes = gradient ? kGradLanes : 16 / size,
                       vectors = width / lanes;
    if (width * size % 16 != 0 || vectors > kThreads) continue;
    std::int64_t spans = 1;
    for (std::int64_t c = 0; c < width; c += lanes)
      spans = std::max(spans, (c + lanes - 1) / d.per_group() - c / d.per_group() + 1);
    for (unsigned cluster = 1; cluster <= clusters; cluster *= 2) {
      const std::int64_t rows = (d.positions + cluster - 1) / cluster, tile = rows * width * size;
      const auto statistics = static_cast<std::int64_t>(gradient ? sizeof(GradStatistics) : sizeof(Statistics));
      const std::int64_t shared = statistics + (gradient ? 2 : 1) * tile;
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
                      static_cast<unsigned>(spans),
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

/// Where a thread works: the first of the kN channels that it takes, and the group that it begins in.
template <int kN>
struct Column {
  unsigned channel, group, row;

  __device__ explicit Column(const Slab& s)
      : channel(threadIdx.x % s.vectors * kN), group(channel / s.group_width), row(threadIdx.x / s.vectors) {}
  /// f(i, group) for its channels.
  template <class F>
  __device__ void for_channels(const Slab& s, F f) const {
    unsigned g = group, within = channel - group * s.group_width;
#pragma unroll
    for (int i = 0; i < kN; ++i) {
      f(i, g);
      if (++within == s.group_width) ++g, within = 0;
    }
  }
  /// f(row, element of the tile) for its rows.
  template <int kUnroll, class F>
  __device__ void for_rows(const Slab& s, std::int64_t rows, F f) const {
    if (row >= s.row_step) return;
    const auto count = static_cast<unsigned>(rows);
#pragma unroll kUnroll
    for (unsigned r = row; r < count; r += s.row_step) f(r, r * s.width + channel);
  }
};

/// Starts copying the block's rows to `tile`, 16 bytes at a time.
template <class T>
__device__ inline void load_tile(const Slab& s, const Work& w, std::int64_t channels, const void* x, T* tile) {
  const unsigned vectors = s.width / kVector<T>, step = kThreads / vectors;
  const unsigned vector = threadIdx.x % vectors, first = threadIdx.x / vectors;
  const auto* from = static_cast<const T*>(x) + w.first_element + vector * kVector<T>;
  if (first < step)
    for (std::int64_t row = first; row < w.rows; row += step)
      copy_async(tile + row * s.width + vector * kVector<T>, from + row * channels, 16);
}

/// Adds up each group's share of all threads' values, one for each of their channels, to sums[group]. In every round a
/// thread leaves the sum of those that belong to one of its groups, and a warp adds up those of each group.
template <int kN>
__device__ inline void add_groups(const Slab& s, const Column<kN>& column, const float (&values)[kN],
                                  float (&partial)[kThreads], double* sums) {
  const unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  for (unsigned round = 0; round < s.spans; ++round) {
    float value = 0;
    column.for_channels(s, [&](int i, unsigned group) { value += group == column.group + round ? values[i] : 0.0f; });
    __syncthreads();
    partial[threadIdx.x] = value;
    __syncthreads();
    for (unsigned group = warp; group < s.groups; group += kWarps) {
      const unsigned begin = group * s.group_width, end = begin + s.group_width;
      double total = 0;
      for (unsigned v = begin / kN; v * kN < end; ++v) {
        if (v * kN / s.group_width + round != group) continue;
        for (unsigned r = lane; r < s.row_step; r += 32) total += static_cast<double>(partial[r * s.vectors + v]);
      }
      total = warp_sum(total);
      if (lane == 0) sums[group] = round == 0 ? total : sums[group] + total;
    }
  }
  __syncthreads();
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
  __shared__ float partial[kThreads];
  __shared__ double sums[kMostGroups];
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
  const Column<kN> column(s);
  float centre[kN], sum[kN] = {};
  column.template for_rows<4>(s, work.rows, [&](unsigned, unsigned at) {
    float x[kN];
    load_vector(tile + at, x);
#pragma unroll
    for (int i = 0; i < kN; ++i) sum[i] += x[i];
  });
  add_groups(s, column, sum, partial, sums);
  if (threadIdx.x < s.groups) mean[threadIdx.x] = static_cast<float>(sums[threadIdx.x] / count);
  __syncthreads();
  column.for_channels(s, [&](int i, unsigned group) {
    centre[i] = mean[group];
    sum[i] = 0;
  });
  column.template for_rows<4>(s, work.rows, [&](unsigned, unsigned at) {
    float x[kN];
    load_vector(tile + at, x);
#pragma unroll
    for (int i = 0; i < kN; ++i) sum[i] += (x[i] - centre[i]) * (x[i] - centre[i]);
  });
  add_groups(s, column, sum, partial, sums);
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
  float scale[kN], beta[kN];
  column.for_channels(s, [&](int i, unsigned group) {
    const unsigned c = work.first_channel + column.channel + i;
    centre[i] = all_mean[group];
    scale[i] = all_rstd[group] * a.gamma[c];
    beta[i] = a.beta[c];
  });
  auto* to = static_cast<T*>(a.y) + work.first_element + column.channel;
  column.template for_rows<2>(s, work.rows, [&](unsigned row, unsigned at) {
    float x[kN];
    load_vector(tile + at, x);
#pragma unroll
    for (int i = 0; i < kN; ++i) {
      x[i] = (x[i] - centre[i]) * scale[i] + beta[i];
      if constexpr (kSilu) x[i] = swish(x[i], 1.0f);
    }
    store_vector(to + row * channels, x);
  });
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
  constexpr int kN = kGradLanes;
  __shared__ float partial[kThreads];
  __shared__ double sums[kMostGroups];
  const std::int64_t channels = a.dims.channels;
  const Work work = find_work<kCluster>(s, channels);
  auto* const statistics = dynamic_shared<GradStatistics>();
  float *const along = statistics->along, *const plain = statistics->plain, *const all_along = statistics->all_along,
               *const all_plain = statistics->all_plain;
  T* x = reinterpret_cast<T*>(statistics + 1);
  T* dy = x + s.rows * s.width;
  load_tile(s, work, channels, a.x, x);
  load_tile(s, work, channels, a.dy, dy);
  copy_commit();
  const std::int64_t first_group = work.sample * a.dims.groups + work.first_channel / s.group_width;
  const Column<kN> column(s);
  float centre[kN], scale[kN], beta[kN];
  column.for_channels(s, [&](int i, unsigned group) {
    const unsigned c = work.first_channel + column.channel + i;
    centre[i] = a.mean[first_group + group];
    scale[i] = a.rstd[first_group + group] * a.gamma[c];
    beta[i] = a.beta[c];
  });
  copy_wait<0>();
  __syncthreads();
  // f(row, x - m, dz r gamma) for the thread's part of the tile.
  const auto for_gradients = [&](auto f) {
    column.template for_rows<2>(s, work.rows, [&](unsigned row, unsigned at) {
      float values[kN], ups[kN];
      load_vector(x + at, values);
      load_vector(dy + at, ups);
#pragma unroll
      for (int i = 0; i < kN; ++i) {
        values[i] -= centre[i];
        ups[i] = before_activation<kSilu>(ups[i], values[i] * scale[i] + beta[i]) * scale[i];
      }
      f(row, values, ups);
    });
  };
  // Sums of g r and of g r (x - m): the factors of r are taken out of the group's means below.
  float sum[kN] = {}, dot[kN] = {};
  for_gradients([&](unsigned, const float(&values)[kN], const float(&ups)[kN]) {
#pragma unroll
    for (int i = 0; i < kN; ++i) {
      sum[i] += ups[i];
      dot[i] += ups[i] * values[i];
    }
  });
  add_groups(s, column, sum, partial, sums);
  if (threadIdx.x < s.groups) plain[threadIdx.x] = static_cast<float>(sums[threadIdx.x]);
  add_groups(s, column, dot, partial, sums);
  if (threadIdx.x < s.groups) along[threadIdx.x] = static_cast<float>(sums[threadIdx.x]);
  cluster_barrier<kCluster>();
  if (threadIdx.x < s.groups) {
    double plain_sum = 0, along_sum = 0;
    for (unsigned rank = 0; rank < kCluster; ++rank) {
      plain_sum += static_cast<double>(cluster_read<kCluster>(plain + threadIdx.x, rank));
      along_sum += static_cast<double>(cluster_read<kCluster>(along + threadIdx.x, rank));
    }
    const auto count = static_cast<double>(s.positions * s.group_width);
    const auto r = static_cast<double>(a.rstd[first_group + threadIdx.x]);
    all_plain[threadIdx.x] = static_cast<float>(plain_sum / count);
    all_along[threadIdx.x] = static_cast<float>(along_sum * r * r / count);
  }
  // Also: no block leaves while others read its shared memory.
  cluster_barrier<kCluster>();
  column.for_channels(s, [&](int i, unsigned group) {
    sum[i] = all_plain[group];
    dot[i] = all_along[group];
  });
  auto* to = static_cast<T*>(a.dx) + work.first_element + column.channel;
  for_gradients([&](unsigned row, const float(&values)[kN], const float(&ups)[kN]) {
    float dx[kN];
#pragma unroll
    for (int i = 0; i < kN; ++i) dx[i] = ups[i] - sum[i] - values[i] * dot[i];
    store_vector(to + row * channels, dx);
  });
}

}  // namespace eq::group_norm_resident
