// Tiles of bf16 in shared memory as the matrix loads want them: lines of chunks of 16 bytes, permuted within the line
// so that the same chunk of eight neighbouring lines lies in eight different groups of banks.
#pragma once

#include "runtime/cuda/warp_mma.cuh"

namespace eq::tile {

/// Element offset of a chunk in a tile whose lines have kRow chunks, an odd multiple of four or a multiple of eight.
template <int kRow>
struct Permuted {
  static_assert(kRow % 4 == 0);
  __device__ static int at(int line, int chunk) {
    return (line * kRow + (kRow % 8 == 4 ? chunk ^ (line >> 1 & 3) : chunk ^ (line & 7))) * 8;
  }
};

/// Where a lane's row of the matrices of a fragment lies whose rows (of A) or columns (of B) are lines.
template <int kRow>
struct LineFragments {
  int line, chunk, first;

  __device__ LineFragments(int own_line, int own_chunk)
      : line(own_line), chunk(own_chunk), first(Permuted<kRow>::at(own_line, own_chunk)) {}
  /// From element k, a multiple of 16, of the lines.
  __device__ int at(int k) const {
    // In lines of 2^n chunks the chunk's bits stand apart from the line's, and k's from the lane's.
    if constexpr ((kRow & (kRow - 1)) == 0)
      return first ^ k;
    else
      return Permuted<kRow>::at(line, k / 8 + chunk);
  }
};
/// For a fragment of A [16 x 16] from line `row`, and for two of B [16 x 8], (b[0], b[1]) and (b[2], b[3]), from
/// `column`.
template <int kRow>
__device__ inline LineFragments<kRow> a_lines(int row) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  return {row + lane % 16, lane / 16};
}
template <int kRow>
__device__ inline LineFragments<kRow> b_lines(int column) {
  const int lane = static_cast<int>(threadIdx.x) % 32, matrix = lane / 8;
  return {column + matrix / 2 * 8 + lane % 8, matrix % 2};
}

/// A fragment of A [16 x 16] whose rows are lines: from line `row` and element `k`.
template <int kRow>
__device__ inline void load_a_lines(std::uint32_t (&a)[4], const bf16* tile, int row, int k) {
  load_matrices<false>(a, tile + a_lines<kRow>(row).at(k));
}
/// The same where steps of k are lines.
template <int kRow>
__device__ inline void load_a_steps(std::uint32_t (&a)[4], const bf16* tile, int row, int k) {
  const int lane = static_cast<int>(threadIdx.x) % 32, matrix = lane / 8;
  load_matrices<true>(a, tile + Permuted<kRow>::at(k + matrix / 2 * 8 + lane % 8, row / 8 + matrix % 2));
}
/// Fragments of B [16 x 8] for 16 columns from `column`: (b[0], b[1]) and (b[2], b[3]). Columns are lines.
template <int kRow>
__device__ inline void load_b_lines(std::uint32_t (&b)[4], const bf16* tile, int column, int k) {
  load_matrices<false>(b, tile + b_lines<kRow>(column).at(k));
}
/// The same where steps of k are lines.
template <int kRow>
__device__ inline void load_b_steps(std::uint32_t (&b)[4], const bf16* tile, int column, int k) {
  const int lane = static_cast<int>(threadIdx.x) % 32, matrix = lane / 8;
  load_matrices<true>(b, tile + Permuted<kRow>::at(k + matrix % 2 * 8 + lane % 8, column / 8 + matrix / 2));
}

}  // namespace eq::tile
