// The bf16 tile kernel for sm_80 and later: a ring of shared-memory stages filled by cp.async, fragments by ldmatrix,
// products by mma.sync m16n8k16 with f32 sums. Matmul, the convolutions and the low-rank layers differ in their loaders
// and epilogues only.
//
// Shared memory holds tiles as their operand lies: k-major [tile rows][kDepth], else [kDepth][tile rows], in chunks of
// 16 bytes (tile_permuted.cuh). Low-rank operands, whatever their storage, are rounded into the first stage after the
// main loop, always k-major.
//
// Tensor cores cut sums instead of rounding them, an error that grows with the number of steps. Where the result is
// kept in f32 (gradients of trained parameters), kPromote adds every kPromoteSteps steps to rounded sums apart.
#pragma once

#include "kernels/gemm/core/tile_epilogue.cuh"
#include "kernels/gemm/core/tile_permuted.cuh"

namespace eq::tile {

/// Tile of a block and of a warp, and the pipeline.
template <int M, int N, int WarpM, int WarpN, int Blocks, bool Promote>
struct MmaConfig {
  static constexpr int kM = M, kN = N, kWarpM = WarpM, kWarpN = WarpN, kBlocks = Blocks;
  static constexpr int kWarps = M / WarpM * (N / WarpN), kThreads = 32 * kWarps;
  static constexpr int kDepth = 32, kStages = 4, kPromoteSteps = 2;
  static constexpr bool kPromote = Promote;
  static constexpr int kRowTiles = WarpM / 16, kColumnTiles = WarpN / 8;
  static constexpr int kPitch = WarpN + 8;  ///< of a warp's staging rows, in floats
  static constexpr unsigned stage_bytes() { return static_cast<unsigned>((M + N) * kDepth * 2); }
  static constexpr unsigned shared_bytes() { return kStages * stage_bytes(); }
  static_assert(kWarps * 16 * kPitch * 4 <= kStages * (M + N) * kDepth * 2);
};
/// Sums stored as bf16, large outputs: 64 KB of shared memory, two blocks on a multiprocessor.
using LargeMma = MmaConfig<128, 128, 64, 32, 2, false>;
/// Everything else.
using SmallMma = MmaConfig<64, 64, 32, 32, 3, true>;

/// Layout of a tile of kRows rows (or columns) of the product.
template <class Config, int kRows, bool kAlongK>
using TileLayout = Permuted<(kAlongK ? Config::kDepth : kRows) / 8>;

template <class Config, bool kAlongK>
__device__ inline void load_a(std::uint32_t (&a)[4], const bf16* tile, int row, int k) {
  if constexpr (kAlongK)
    load_a_lines<Config::kDepth / 8>(a, tile, row, k);
  else
    load_a_steps<Config::kM / 8>(a, tile, row, k);
}
template <class Config, bool kAlongK>
__device__ inline void load_b(std::uint32_t (&b)[4], const bf16* tile, int column, int k) {
  if constexpr (kAlongK)
    load_b_lines<Config::kDepth / 8>(b, tile, column, k);
  else
    load_b_steps<Config::kN / 8>(b, tile, column, k);
}

template <class Config>
struct Sums {
  float at[Config::kRowTiles][Config::kColumnTiles][4];

  __device__ void clear() {
#pragma unroll
    for (auto& row : at)
#pragma unroll
      for (auto& tile : row)
#pragma unroll
        for (float& x : tile) x = 0.0f;
  }
};

/// Adds the products of one stage.
template <class Config, bool kAlongA, bool kAlongB>
__device__ inline void multiply(Sums<Config>& sums, const bf16* tile_a, const bf16* tile_b, int row, int column) {
#pragma unroll
  for (int k = 0; k < Config::kDepth; k += 16) {
    std::uint32_t b[Config::kColumnTiles / 2][4];
#pragma unroll
    for (int j = 0; j < Config::kColumnTiles / 2; ++j) load_b<Config, kAlongB>(b[j], tile_b, column + j * 16, k);
#pragma unroll
    for (int i = 0; i < Config::kRowTiles; ++i) {
      std::uint32_t a[4];
      load_a<Config, kAlongA>(a, tile_a, row + i * 16, k);
#pragma unroll
      for (int j = 0; j < Config::kColumnTiles; ++j)
        mma_bf16(sums.at[i][j], a, b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]);
    }
  }
}

/// Rounds both operands of a low-rank term at steps from k into k-major tiles: chunks of eight steps, a few of a thread
/// under way together.
template <class Config>
__device__ inline void fill_low_rank(const LowRank& low, const Output& out, bf16* tile_a, bf16* tile_b,
                                     std::int64_t tile_row, std::int64_t tile_column, int k) {
  using Layout = Permuted<Config::kDepth / 8>;
  constexpr int kRow = Config::kDepth / 8, kBatch = 2;
  constexpr int kCount = (Config::kM + Config::kN) * kRow / Config::kThreads;
  static_assert(kCount % kBatch == 0 && (Config::kM + Config::kN) * kRow % Config::kThreads == 0);
#pragma unroll 1
  for (int first = 0; first < kCount; first += kBatch) {
    float v[kBatch][8];
#pragma unroll
    for (int n = 0; n < kBatch; ++n) {
      const int i = (first + n) * Config::kThreads + static_cast<int>(threadIdx.x), row = i / kRow;
      const int at = k + i % kRow * 8;
      if (row < Config::kM)
        load_low_rank(low.a, low.a_type, low.vectors, tile_row + row, out.m, at, low.k, low.scale, v[n]);
      else
        load_low_rank(low.b, low.b_type, low.vectors, tile_column + row - Config::kM, out.n, at, low.k, 1.0f, v[n]);
    }
#pragma unroll
    for (int n = 0; n < kBatch; ++n) {
      const int i = (first + n) * Config::kThreads + static_cast<int>(threadIdx.x), row = i / kRow;
      store_vector<8>(
          (row < Config::kM ? tile_a : tile_b) + Layout::at(row < Config::kM ? row : row - Config::kM, i % kRow), v[n]);
    }
  }
}

template <class Config>
__device__ inline void add_low_rank(Sums<Config>& sums, const LowRank& low, const Output& out, bf16* shared,
                                    std::int64_t tile_row, std::int64_t tile_column, int row, int column) {
  bf16* const tile_b = shared + Config::kM * Config::kDepth;
#pragma unroll 1
  for (int k = 0; k < low.k; k += Config::kDepth) {
    __syncthreads();
    fill_low_rank<Config>(low, out, shared, tile_b, tile_row, tile_column, k);
    __syncthreads();
    multiply<Config, true, true>(sums, shared, tile_b, row, column);
  }
}

template <class Config, class LoadA, class LoadB>
__global__ void __launch_bounds__(Config::kThreads, Config::kBlocks) mma_kernel(const Problem<LoadA, LoadB> p) {
  constexpr bool kAlongA = LoadA::kAlongK, kAlongB = LoadB::kAlongK;
  constexpr int kDepth = Config::kDepth, kStages = Config::kStages;
  constexpr int kStage = (Config::kM + Config::kN) * kDepth;
  bf16* const shared = dynamic_shared<bf16>();

  const BlockPlace own = block_place<Config::kM, Config::kN, kDepth>(p);
  LoadA a = p.a;
  LoadB b = p.b;
  const std::int64_t output = enter_layer(p, own.layer, a, b);
  const TileCopy<LoadA, TileLayout<Config, Config::kM, kAlongA>, kAlongA ? Config::kM : kDepth,
                 kAlongA ? kDepth : Config::kM, Config::kThreads, kAlongA>
      copy_a(a, own.row);
  const TileCopy<LoadB, TileLayout<Config, Config::kN, kAlongB>, kAlongB ? Config::kN : kDepth,
                 kAlongB ? kDepth : Config::kN, Config::kThreads, kAlongB>
      copy_b(b, own.column);
  const auto async = [](bf16* to, const bf16* from, int bytes) { copy_async(to, from, bytes); };
  const auto fill = [&](int step) {
    if (step < own.steps) {
      bf16* const stage = shared + step % kStages * kStage;
      copy_a.queue(own.k_first + std::int64_t{step} * kDepth, stage, async);
      copy_b.queue(own.k_first + std::int64_t{step} * kDepth, stage + Config::kM * kDepth, async);
    }
    copy_commit();
  };

  const int warp = static_cast<int>(threadIdx.x) / 32;
  constexpr int kWarpColumns = Config::kN / Config::kWarpN;
  const int row = warp / kWarpColumns * Config::kWarpM, column = warp % kWarpColumns * Config::kWarpN;
  Sums<Config> sums, rounded;
  sums.clear();
  if constexpr (Config::kPromote) rounded.clear();
  const auto promote = [&] {
#pragma unroll
    for (int i = 0; i < Config::kRowTiles; ++i)
#pragma unroll
      for (int j = 0; j < Config::kColumnTiles; ++j)
#pragma unroll
        for (int x = 0; x < 4; ++x) {
          rounded.at[i][j][x] += sums.at[i][j][x];
          sums.at[i][j][x] = 0.0f;
        }
  };

#pragma unroll
  for (int step = 0; step < kStages - 1; ++step) fill(step);
#pragma unroll 1
  for (int step = 0; step < own.steps; ++step) {
    copy_wait<kStages - 2>();
    // Stage `step` has arrived for all threads, and all have done with stage `step - 1`, which is filled next.
    __syncthreads();
    fill(step + kStages - 1);
    const bf16* const stage = shared + step % kStages * kStage;
    multiply<Config, kAlongA, kAlongB>(sums, stage, stage + Config::kM * kDepth, row, column);
    if constexpr (Config::kPromote) {
      if (step % Config::kPromoteSteps == Config::kPromoteSteps - 1) promote();
    }
  }
  copy_wait<0>();
  if (p.low_rank.k > 0) add_low_rank(sums, p.low_rank, p.out, shared, own.row, own.column, row, column);
  if constexpr (Config::kPromote) {
    promote();
    sums = rounded;
  }
  __syncthreads();

  // Each warp stages 16 rows at a time in memory of its own.
  const int lane = static_cast<int>(threadIdx.x) % 32;
  float* const staging = reinterpret_cast<float*>(shared) + warp * 16 * Config::kPitch;
  const ColumnValues columns = column_values(p.out, own.column + column + lane % (Config::kWarpN / 8) * 8);
#pragma unroll
  for (int i = 0; i < Config::kRowTiles; ++i) {
#pragma unroll
    for (int j = 0; j < Config::kColumnTiles; ++j)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float* const to = staging + (lane / 4 + half * 8) * Config::kPitch + j * 8 + lane % 4 * 2;
        *reinterpret_cast<float2*>(to) = make_float2(sums.at[i][j][2 * half], sums.at[i][j][2 * half + 1]);
      }
    __syncwarp();
    finish_rows<16, Config::kWarpN, 32>(p.out, columns, staging, Config::kPitch, own.row + row + i * 16,
                                        own.column + column, output, lane);
    __syncwarp();
  }
}

}  // namespace eq::tile
