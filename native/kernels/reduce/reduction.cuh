// Reductions over the middle of [outer, reduced, inner], for whatever can be combined in parts. Three kernels:
//
//   lanes     inner = 1, short rows: 1 to 32 neighbouring threads take a row, in packets where rows are aligned.
//   rows      inner = 1, long rows: a block takes a part of a row.
//   columns   inner > 1: threads beside each other take neighbouring columns (eight each where inner is a multiple of
//             eight), threads above each other rows; shared memory joins them.
//
// Where the results are too few to fill the device the reduced dimension is cut into parts and a last kernel combines
// these in order. How it is cut follows from the shape alone: equal input gives equal bits on every device.
//
// Bytes n * size: memory-bound. 256 threads a block. Shared memory: 256 partial results in `columns`, 8 in `rows`.
//
// A reduction R is a functor with
//   Part                                  a partial result of 4, 8 or 16 bytes;  kEmpty() the one of no elements
//   Part take(Part, double x, int64 r)    adds element r of the reduced dimension
//   Part combine(Part a, Part b)          a from the smaller r
//   void write(int64 at, Part)            stores a result
// and members that say where results go.
#pragma once

#include <algorithm>

#include "kernels/packet.cuh"
#include "kernels/strides.cuh"
#include "runtime/cuda/reduce.cuh"

namespace eq {

inline constexpr int kReduceThreads = 256;

struct Reduced {
  const void* x;
  DType type;
  bool packed;  ///< rows of x, or of its columns, may be read in packets
  std::int64_t outer, length, inner;
  std::int64_t parts, part_length;
  int lanes;  ///< that take a row (`lanes`), or neighbouring columns (`columns`): a power of two
};

/// A partial result from another lane of the warp.
template <class Part>
__device__ inline Part shuffle_part(const Part& part, int step) {
  static_assert(sizeof(Part) % 4 == 0);
  union Words {
    Part part;
    unsigned words[sizeof(Part) / 4];
    __device__ Words() {}
  } from, to;
  from.part = part;
#pragma unroll
  for (int i = 0; i < static_cast<int>(sizeof(Part) / 4); ++i)
    to.words[i] = __shfl_down_sync(kFullWarp, from.words[i], step);
  return to.part;
}

/// Elements [begin, end) of the row at `row`, of which this thread takes every `threads`-th packet or element.
template <class R>
__device__ inline typename R::Part reduce_run(const Reduced& a, const R& r, std::int64_t row, std::int64_t begin,
                                              std::int64_t end, int thread, int threads) {
  typename R::Part part = R::kEmpty();
  if (a.packed) {
#pragma unroll 2
    for (std::int64_t i = begin + thread * kPacket; i < end; i += static_cast<std::int64_t>(threads) * kPacket) {
      double values[kPacket];
      unpack(load_packet(a.x, a.type, row + i), a.type, values);
#pragma unroll
      for (int j = 0; j < kPacket; ++j) part = r.take(part, values[j], i + j);
    }
  } else {
#pragma unroll 4
    for (std::int64_t i = begin + thread; i < end; i += threads)
      part = r.take(part, load_one<double>(a.x, a.type, row + i), i);
  }
  return part;
}

template <class R>
__global__ __launch_bounds__(kReduceThreads, 4) void reduce_lanes(const Reduced a, const R r) {
  const int lane = threadIdx.x % a.lanes, rows_here = kReduceThreads / a.lanes;
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * rows_here;
  // All threads of a warp go round equally often: they meet in the shuffles.
  for (std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * rows_here; first < a.outer; first += stride) {
    const std::int64_t row = first + threadIdx.x / a.lanes;
    typename R::Part part = R::kEmpty();
    if (row < a.outer) part = reduce_run(a, r, row * a.length, 0, a.length, lane, a.lanes);
    for (int step = a.lanes / 2; step > 0; step /= 2) part = r.combine(part, shuffle_part(part, step));
    if (row < a.outer && lane == 0) r.write(row, part);
  }
}

template <class R>
__global__ __launch_bounds__(kReduceThreads, 4) void reduce_rows(const Reduced a, const R r,
                                                                 typename R::Part* const partial) {
  constexpr int kWarps = kReduceThreads / 32;
  __shared__ typename R::Part shared[kWarps];
  for (std::int64_t u = blockIdx.x; u < a.outer * a.parts; u += gridDim.x) {
    const std::int64_t row = u / a.parts, begin = u % a.parts * a.part_length;
    const std::int64_t end = min(begin + a.part_length, a.length);
    typename R::Part part = reduce_run(a, r, row * a.length, begin, end, threadIdx.x, kReduceThreads);
#pragma unroll
    for (int step = 16; step > 0; step /= 2) part = r.combine(part, shuffle_part(part, step));
    if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = part;
    __syncthreads();
    if (threadIdx.x == 0) {
#pragma unroll
      for (int w = 1; w < kWarps; ++w) part = r.combine(part, shared[w]);
      if (partial)
        partial[u] = part;
      else
        r.write(row, part);
    }
    __syncthreads();
  }
}

/// kColumns a thread: kPacket or 1.
template <class R, int kColumns>
__global__ __launch_bounds__(kReduceThreads, 3) void reduce_columns(const Reduced a, const R r,
                                                                    typename R::Part* const partial) {
  using Part = typename R::Part;
  __shared__ Part shared[kReduceThreads];
  const int across = threadIdx.x % a.lanes, down = threadIdx.x / a.lanes, rows_here = kReduceThreads / a.lanes;
  const std::int64_t width = static_cast<std::int64_t>(a.lanes) * kColumns, tiles = (a.inner + width - 1) / width;
  for (std::int64_t u = blockIdx.x; u < a.outer * a.parts * tiles; u += gridDim.x) {
    const std::int64_t slice = u / tiles, outer = slice / a.parts, begin = slice % a.parts * a.part_length;
    const std::int64_t end = min(begin + a.part_length, a.length);
    const std::int64_t column = u % tiles * width + across * kColumns;
    Part parts[kColumns];
#pragma unroll
    for (int j = 0; j < kColumns; ++j) parts[j] = R::kEmpty();
    if (column < a.inner) {
#pragma unroll 4
      for (std::int64_t i = begin + down; i < end; i += rows_here) {
        const std::int64_t at = (outer * a.length + i) * a.inner + column;
        if constexpr (kColumns == 1) {
          parts[0] = r.take(parts[0], load_one<double>(a.x, a.type, at), i);
        } else {
          double values[kPacket];
          unpack(load_packet(a.x, a.type, at), a.type, values);
#pragma unroll
          for (int j = 0; j < kPacket; ++j) parts[j] = r.take(parts[j], values[j], i);
        }
      }
    }
#pragma unroll
    for (int j = 0; j < kColumns; ++j) {
      shared[threadIdx.x] = parts[j];
      __syncthreads();
      for (int half = rows_here / 2; half > 0; half /= 2) {
        if (down < half) shared[threadIdx.x] = r.combine(shared[threadIdx.x], shared[threadIdx.x + half * a.lanes]);
        __syncthreads();
      }
      if (down == 0 && column + j < a.inner) {
        if (partial)
          partial[slice * a.inner + column + j] = shared[threadIdx.x];
        else
          r.write(outer * a.inner + column + j, shared[threadIdx.x]);
      }
      __syncthreads();
    }
  }
}

/// A warp for each result: its parts, in order.
template <class R>
__global__ __launch_bounds__(kReduceThreads) void reduce_parts(const typename R::Part* const partial, const R r,
                                                               const std::int64_t n, const std::int64_t inner,
                                                               const std::int64_t parts) {
  constexpr int kWarps = kReduceThreads / 32;
  const int lane = threadIdx.x % 32;
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kWarps;
  for (std::int64_t u = static_cast<std::int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32; u < n; u += stride) {
    const auto* from = partial + u / inner * parts * inner + u % inner;
    // Every lane takes consecutive parts, so that what is combined stays in order.
    const std::int64_t share = (parts + 31) / 32, end = min((lane + 1) * share, parts);
    typename R::Part part = R::kEmpty();
    for (std::int64_t p = lane * share; p < end; ++p) part = r.combine(part, from[p * inner]);
#pragma unroll
    for (int step = 16; step > 0; step /= 2) part = r.combine(part, shuffle_part(part, step));
    if (lane == 0) r.write(u, part);
  }
}

/// Cuts the reduced dimension so that about 1024 blocks work, each on at least `least` of its elements.
inline void cut(Reduced& a, std::int64_t units, std::int64_t least) {
  const std::int64_t wanted = std::max<std::int64_t>(1, 1024 / std::max<std::int64_t>(1, units));
  const std::int64_t most = std::max<std::int64_t>(1, (a.length + least - 1) / least);
  a.part_length = std::max<std::int64_t>(kPacket, (a.length + std::min(wanted, most) - 1) / std::min(wanted, most));
  a.part_length = (a.part_length + kPacket - 1) / kPacket * kPacket;
  a.parts = std::max<std::int64_t>(1, (a.length + a.part_length - 1) / a.part_length);
}

/// Queues the reduction of x [outer, reduced, inner] with R's results at [outer, inner].
template <class R>
void launch_reduction(Device& device, const OpInfo& info, const void* x, DType type, std::int64_t outer,
                      std::int64_t reduced, std::int64_t inner, const R& r) {
  if (outer == 0 || inner == 0) return;
  using Part = typename R::Part;
  Reduced a{x, type, false, outer, reduced, inner, 1, reduced, 1};
  a.packed = packets_fit(x, type) && (inner == 1 ? reduced : inner) % kPacket == 0;
  constexpr int kWaves = 8;
  constexpr std::int64_t kShort = 2048;
  if (inner == 1 && reduced <= kShort) {
    while (a.lanes < 32 && a.lanes * kPacket < reduced) a.lanes *= 2;
    return launch_kernel(device, info, reduce_lanes<R>,
                         {.grid_x = grid_for(device, outer, kReduceThreads / a.lanes, kWaves), .block = kReduceThreads},
                         a, r);
  }
  std::int64_t tiles = 1;
  if (inner == 1) {
    cut(a, outer, 4 * kShort);
  } else {
    const int columns = a.packed ? kPacket : 1;
    while (a.lanes < 32 && static_cast<std::int64_t>(a.lanes) * columns < inner) a.lanes *= 2;
    tiles = (inner + a.lanes * columns - 1) / (a.lanes * columns);
    cut(a, outer * tiles, 16 * (kReduceThreads / a.lanes));
  }
  const Tensor scratch =
      a.parts == 1 ? Tensor{}
                   : device.empty(DType::I32, {outer, a.parts, inner, static_cast<std::int64_t>(sizeof(Part) / 4)});
  Part* const partial = scratch ? scratch.data<Part>() : nullptr;
  const Launch launch{.grid_x = grid_for(device, outer * a.parts * tiles, 1, 4 * kWaves), .block = kReduceThreads};
  if (inner == 1)
    launch_kernel(device, info, reduce_rows<R>, launch, a, r, partial);
  else
    launch_kernel(device, info, a.packed ? reduce_columns<R, kPacket> : reduce_columns<R, 1>, launch, a, r, partial);
  if (!partial) return;
  const std::int64_t n = outer * inner;
  launch_kernel(device, info, reduce_parts<R>,
                {.grid_x = grid_for(device, n, kReduceThreads / 32, 4 * kWaves), .block = kReduceThreads}, partial, r,
                n, inner, a.parts);
}

}  // namespace eq
