// What the fused attention kernels share: tiles of one head in shared memory and fragments between two products.
//
// kD is the head's depth as compiled, a multiple of 32; shallower heads are padded with zeros that nobody reads from
// memory. Heads are strided by the number of channels; their depth is a multiple of eight.
#pragma once

#include "kernels/attention/attention.h"
#include "kernels/gemm/core/tile_permuted.cuh"
#include "runtime/cuda/approximate.cuh"
#include "runtime/cuda/vec.cuh"

namespace eq::flash {

/// One head of a tensor [B, L, H*D]: row i at data + i * pitch.
struct Head {
  const bf16* data;
  std::int64_t pitch, rows;
  int depth;
};

/// Whether all of an attention's operands are what the fused kernels read.
inline bool fits(const AttentionDims& d, DType q, DType k, DType v) {
  return q == DType::BF16 && k == DType::BF16 && v == DType::BF16 && d.depth % 8 == 0 && d.depth <= 160;
}

/// Calls f with the compiled depth (an integral constant) that holds `depth`.
template <class F>
void with_depth(std::int64_t depth, F&& f) {
  if (depth <= 64)
    f(std::integral_constant<int, 64>{});
  else if (depth <= 96)
    f(std::integral_constant<int, 96>{});
  else
    f(std::integral_constant<int, 160>{});
}

/// Queues the copies of kRows rows from `first` into a tile [kRows][kD]; rows and channels that do not exist are zeros.
template <int kD, int kRows, int kThreads>
__device__ inline void queue_rows(bf16* tile, const Head& head, std::int64_t first) {
  constexpr int kRow = kD / 8;
  static_assert(kRows * kRow % kThreads == 0 || kRows * kRow > kThreads);
  const std::int64_t left = head.rows - first;
  const int count = left < kRows ? static_cast<int>(left) : kRows;
  const bf16* const from = head.data + first * head.pitch;
#pragma unroll
  for (int i = 0; i < (kRows * kRow + kThreads - 1) / kThreads; ++i) {
    const int at = i * kThreads + static_cast<int>(threadIdx.x), row = at / kRow, chunk = at % kRow;
    if (kRows * kRow % kThreads != 0 && at >= kRows * kRow) break;
    const bool inside = row < count && chunk * 8 < head.depth;
    copy_async(tile + tile::Permuted<kRow>::at(row, chunk), inside ? from + (row * head.pitch + chunk * 8) : head.data,
               inside ? 16 : 0);
  }
}

/// Tiles [kRows][kD] of a head's rows, one after the other from row `first` on: queue_rows, with what stays the same
/// computed once.
template <int kD, int kRows, int kThreads>
class RowStream {
 public:
  __device__ RowStream(const Head& head, std::int64_t first) : head_(head), first_(first) {
    if constexpr (kAligned) from_ = head.data + ((first + row()) * head.pitch + chunk() * 8);
  }
  __device__ void queue(bf16* tile) {
    if constexpr (kAligned) {
      const std::int64_t left = head_.rows - first_;
      const int count = chunk() * 8 < head_.depth ? left < kRows ? static_cast<int>(left) : kRows : 0;
      bf16* const to = tile + tile::Permuted<kRow>::at(row(), chunk());
#pragma unroll
      for (int i = 0; i < kRows / kStep; ++i) {
        const bool inside = row() + i * kStep < count;
        copy_async(to + i * kStep * kD, inside ? from_ + i * kStep * head_.pitch : head_.data, inside ? 16 : 0);
      }
      from_ += kRows * head_.pitch;
    } else {
      queue_rows<kD, kRows, kThreads>(tile, head_, first_);
    }
    first_ += kRows;
  }

 private:
  /// A thread's chunks lie below one another, where the permutation is the same.
  static constexpr int kRow = kD / 8, kStep = kThreads / kRow;
  static constexpr bool kAligned = kThreads % kRow == 0 && kStep % 8 == 0 && kRows % kStep == 0;

  __device__ static int row() { return static_cast<int>(threadIdx.x) / kRow; }
  __device__ static int chunk() { return static_cast<int>(threadIdx.x) % kRow; }

  const Head& head_;
  std::int64_t first_;
  const bf16* from_;
};

constexpr float kLog2E = 1.44269504088896341f;

/// A row of 16 x (8 kTiles) sums as the fragments of A of the next product: rounds the sums of column tiles 2 j, 2 j
/// + 1.
template <int kTiles>
__device__ inline void to_fragment(std::uint32_t (&a)[4], const float (&sums)[kTiles][4], int j) {
  a[0] = pack_bf16(sums[2 * j][0], sums[2 * j][1]);
  a[1] = pack_bf16(sums[2 * j][2], sums[2 * j][3]);
  a[2] = pack_bf16(sums[2 * j + 1][0], sums[2 * j + 1][1]);
  a[3] = pack_bf16(sums[2 * j + 1][2], sums[2 * j + 1][3]);
}

template <int kTiles>
__device__ inline void clear(float (&sums)[kTiles][4]) {
#pragma unroll
  for (auto& tile : sums)
#pragma unroll
    for (float& x : tile) x = 0.0f;
}

/// sums [16 x 8 kTiles] += rows a.. of tile A times columns, both lines of kD elements: A B^T.
template <int kD, int kTiles>
__device__ inline void multiply_lines(float (&sums)[kTiles][4], const bf16* tile_a, int row, const bf16* tile_b) {
  const tile::LineFragments<kD / 8> from_a = tile::a_lines<kD / 8>(row), from_b = tile::b_lines<kD / 8>(0);
  // Unrolled further, loads are hoisted until registers spill.
#pragma unroll 2
  for (int k = 0; k < kD; k += 16) {
    std::uint32_t a[4];
    load_matrices<false>(a, tile_a + from_a.at(k));
#pragma unroll
    for (int j = 0; j < kTiles / 2; ++j) {
      std::uint32_t b[4];
      // Sixteen lines further down the permutation is the same.
      load_matrices<false>(b, tile_b + from_b.at(k) + j * 16 * kD);
      mma_bf16(sums[2 * j], a, b[0], b[1]);
      mma_bf16(sums[2 * j + 1], a, b[2], b[3]);
    }
  }
}

/// sums [16 x kD] += P [16 x 8 kTiles] B, where B's lines [8 kTiles][kD] are the steps of the sum.
template <int kD, int kTiles>
__device__ inline void multiply_steps(float (&sums)[kD / 8][4], const float (&p)[kTiles][4], const bf16* tile_b) {
#pragma unroll
  for (int j = 0; j < kTiles / 2; ++j) {
    std::uint32_t a[4];
    to_fragment(a, p, j);
#pragma unroll
    for (int d = 0; d < kD / 16; ++d) {
      std::uint32_t b[4];
      tile::load_b_steps<kD / 8>(b, tile_b, d * 16, j * 16);
      mma_bf16(sums[2 * d], a, b[0], b[1]);
      mma_bf16(sums[2 * d + 1], a, b[2], b[3]);
    }
  }
}

/// Writes a warp's sums [16 x kD] as rows of a head, times `low` for rows 0..7 and `high` for rows 8..15, through
/// `staging` [16][kD] in shared memory that only this warp uses.
template <int kD>
__device__ inline void store_rows(bf16* staging, const float (&sums)[kD / 8][4], float low, float high, bf16* to,
                                  std::int64_t pitch, std::int64_t first, std::int64_t rows, int depth) {
  constexpr int kRow = kD / 8;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  __syncwarp();
#pragma unroll
  for (int d = 0; d < kRow; ++d) {
    std::uint32_t* const upper = reinterpret_cast<std::uint32_t*>(staging + tile::Permuted<kRow>::at(lane / 4, d));
    std::uint32_t* const lower = reinterpret_cast<std::uint32_t*>(staging + tile::Permuted<kRow>::at(lane / 4 + 8, d));
    upper[lane % 4] = pack_bf16(sums[d][0] * low, sums[d][1] * low);
    lower[lane % 4] = pack_bf16(sums[d][2] * high, sums[d][3] * high);
  }
  __syncwarp();
#pragma unroll 1
  for (int i = lane; i < 16 * kRow; i += 32) {
    const int row = i / kRow, chunk = i % kRow;
    if (first + row < rows && chunk * 8 < depth)
      *reinterpret_cast<uint4*>(to + (first + row) * pitch + chunk * 8) =
          *reinterpret_cast<const uint4*>(staging + tile::Permuted<kRow>::at(row, chunk));
  }
}

}  // namespace eq::flash
