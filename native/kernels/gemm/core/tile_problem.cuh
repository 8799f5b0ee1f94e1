// What every tile kernel is told besides its operands: the grid of tiles, batches or parts of k, the low-rank term and
// the output with its epilogue (epilogue_args.h).
#pragma once

#include <cstdint>

#include "kernels/gemm/core/epilogue_args.h"
#include "kernels/gemm/core/tile_loader.cuh"
#include "runtime/cuda/vec.cuh"

namespace eq::tile {

/// Matrices of a batch: element offsets of A, B and C by index.
struct Batches {
  static constexpr int kRank = 6;
  int rank = 0;
  unsigned dims[kRank] = {};
  std::int64_t a[kRank] = {}, b[kRank] = {}, c[kRank] = {};
};

/// Tiles of the output, in bands of kBand rows of tiles so that neighbouring blocks share operands in cache.
struct Grid {
  static constexpr unsigned kBand = 8;
  unsigned rows = 0, columns = 0, layers = 0;  ///< layers: batches or parts of k
  bool parts = false;
  std::int64_t part_size = 0;  ///< steps of k per part
  std::int64_t blocks() const {
    return static_cast<std::int64_t>(rows) * static_cast<std::int64_t>(columns) * static_cast<std::int64_t>(layers);
  }
};
struct GridPlace {
  unsigned row, column, layer;
};
__device__ inline GridPlace grid_place(const Grid& grid, unsigned block) {
  const unsigned layer_size = grid.rows * grid.columns, layer = block / layer_size, rest = block - layer * layer_size;
  const unsigned band_size = Grid::kBand * grid.columns, band = rest / band_size, within = rest - band * band_size;
  const unsigned first = band * Grid::kBand;
  const unsigned height = grid.rows - first < Grid::kBand ? grid.rows - first : Grid::kBand;
  return {first + within % height, within / height, layer};
}

/// scale * A2 B2^T in further steps of the sum: A2 [M, k], B2 [N, k] of either storage; k 0 for none.
struct LowRank {
  const void *a = nullptr, *b = nullptr;
  DType a_type = DType::F32, b_type = DType::F32;
  int k = 0;
  float scale = 1.0f;
  bool vectors = false;  ///< rows of both start at multiples of 16 bytes, and of eight elements
};

/// Elements at .. at + 8 of a row of A2 or B2 times `factor`; what does not exist is zero.
__device__ inline void load_low_rank(const void* from, DType type, bool vectors, std::int64_t row, std::int64_t rows,
                                     int at, int depth, float factor, float (&v)[8]) {
#pragma unroll
  for (float& x : v) x = 0.0f;
  if (row >= rows || at >= depth) return;
  const std::int64_t first = row * depth + at;
  if (vectors) {
    type == DType::BF16 ? load_vector<8>(static_cast<const bf16*>(from) + first, v)
                        : load_vector<8>(static_cast<const float*>(from) + first, v);
  } else {
#pragma unroll
    for (int j = 0; j < 8; ++j)
      if (at + j < depth) v[j] = load_float(from, type, first + j);
  }
#pragma unroll
  for (float& x : v) x *= factor;
}

/// Where row i of the product begins in the output: i * pitch, or a pixel of every out_step-th row and column of an
/// image (transposed convolution).
struct RowMap {
  bool spread = false;
  std::int64_t pitch = 0;
  Divisor width, height;  ///< of the grid of pixels
  std::int64_t step_y = 0, step_x = 0, first_y = 0, first_x = 0, out_height = 0, out_width = 0;

  __device__ std::int64_t at(std::int64_t row) const {
    if (!spread) return row * pitch;
    auto rest = static_cast<std::uint32_t>(row);
    const std::uint32_t x = width.split(rest), y = height.split(rest);
    return ((rest * out_height + y * step_y + first_y) * out_width + x * step_x + first_x) * pitch;
  }
};

struct Output {
  void* c = nullptr;
  DType type = DType::F32;
  std::int64_t m = 0, n = 0;
  RowMap rows;
  bool vectors = false;  ///< rows of c and of the addend start at multiples of eight elements' size
  EpilogueArgs epilogue;
};

template <class LoadA, class LoadB>
struct Problem {
  LoadA a;
  LoadB b;
  std::int64_t k = 0;
  Grid grid;
  Batches batches;
  LowRank low_rank;
  Output out;
};

struct LayerOffsets {
  std::int64_t a = 0, b = 0, c = 0;
};
__device__ inline LayerOffsets layer_offsets(const Batches& batches, unsigned layer) {
  LayerOffsets at;
  for (int i = batches.rank - 1; i >= 0; --i) {
    const unsigned index = layer % batches.dims[i];
    layer /= batches.dims[i];
    at.a += index * batches.a[i];
    at.b += index * batches.b[i];
    at.c += index * batches.c[i];
  }
  return at;
}

/// What a block works on: the place of its tile in the product, its steps of kDepth along k, its batch or part of k.
struct BlockPlace {
  std::int64_t row, column, k_first;
  int steps;
  unsigned layer;
};
template <int kM, int kN, int kDepth, class LoadA, class LoadB>
__device__ inline BlockPlace block_place(const Problem<LoadA, LoadB>& p) {
  const GridPlace place = grid_place(p.grid, blockIdx.x);
  const std::int64_t k_first = p.grid.parts ? place.layer * p.grid.part_size : 0, left = p.k - k_first;
  const std::int64_t size = p.grid.parts && p.grid.part_size < left ? p.grid.part_size : left;
  return {std::int64_t{place.row} * kM, std::int64_t{place.column} * kN, k_first,
          static_cast<int>((size + kDepth - 1) / kDepth), place.layer};
}
/// Advances copies of the problem's operands to those of its batch; the offset of its matrix in the output.
template <class LoadA, class LoadB>
__device__ inline std::int64_t enter_layer(const Problem<LoadA, LoadB>& p, unsigned layer, LoadA& a, LoadB& b) {
  if (p.grid.parts) return layer * p.out.m * p.out.n;
  if (p.batches.rank == 0) return 0;
  const LayerOffsets offsets = layer_offsets(p.batches, layer);
  if constexpr (LoadA::kBatched) a.advance(offsets.a);
  if constexpr (LoadB::kBatched) b.advance(offsets.b);
  return offsets.c;
}

}  // namespace eq::tile
