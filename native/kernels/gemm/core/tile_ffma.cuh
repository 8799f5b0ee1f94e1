// The f32 tile kernel: plain multiply-adds, so that f32 operands give f32 results. A block of 256 threads computes
// 128 x 64 sums, a thread 8 x 4 of them; every 128 steps of k are summed apart, then added to the rest, which keeps the
// rounding error of long sums small.
//
// Shared memory holds k-major tiles as [rows][kDepth + 4] and others as [kDepth][rows]: both are read in vectors of
// four without bank conflicts.
#pragma once

#include "kernels/gemm/core/tile_epilogue.cuh"
#include "runtime/cuda/warp_mma.cuh"

namespace eq::tile {

struct Ffma {
  static constexpr int kM = 128, kN = 64, kDepth = 16, kThreads = 256, kStages = 3, kPartSteps = 8;
  static constexpr int kRows = 8, kColumns = 4;  ///< of a thread
  static constexpr int kPitch = kN + 4;          ///< of the finished tile
  static constexpr unsigned shared_bytes() {
    constexpr unsigned ring = kStages * (kM + kN) * (kDepth + 4) * 4, tile = kM * kPitch * 4;
    return ring > tile ? ring : tile;
  }
};

template <int kRow>
struct Padded {
  __device__ static int at(int line, int chunk) { return line * kRow + chunk * 4; }
};
template <int kRows, bool kAlongK>
using FfmaLayout = Padded<kAlongK ? Ffma::kDepth + 4 : kRows>;

/// Row (or column) i of a thread's share: neighbours along the other axis would collide in the banks.
template <bool kAlongK, int kLanes>
__device__ inline int share(int lane, int i) {
  return kAlongK ? lane + i * kLanes : i / 4 * 4 * kLanes + lane * 4 + i % 4;
}

template <bool kAlongA, bool kAlongB>
__device__ inline void multiply(float (&sums)[Ffma::kRows][Ffma::kColumns], const float* tile_a, const float* tile_b,
                                int row, int column) {
  constexpr int kRowLanes = Ffma::kM / Ffma::kRows, kColumnLanes = Ffma::kN / Ffma::kColumns;
#pragma unroll 1
  for (int k = 0; k < Ffma::kDepth; k += 4) {
    float b[4][4];  // [step][column]
    if constexpr (kAlongB) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        float v[4];
        load_vector<4>(tile_b + share<true, kColumnLanes>(column, j) * (Ffma::kDepth + 4) + k, v);
#pragma unroll
        for (int q = 0; q < 4; ++q) b[q][j] = v[q];
      }
    } else {
#pragma unroll
      for (int q = 0; q < 4; ++q)
        load_vector<4>(tile_b + (k + q) * Ffma::kN + share<false, kColumnLanes>(column, 0), b[q]);
    }
    if constexpr (kAlongA) {
#pragma unroll
      for (int i = 0; i < Ffma::kRows; ++i) {
        float a[4];
        load_vector<4>(tile_a + share<true, kRowLanes>(row, i) * (Ffma::kDepth + 4) + k, a);
#pragma unroll
        for (int q = 0; q < 4; ++q)
#pragma unroll
          for (int j = 0; j < 4; ++j) sums[i][j] = fmaf(a[q], b[q][j], sums[i][j]);
      }
    } else {
#pragma unroll
      for (int q = 0; q < 4; ++q)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          float a[4];
          load_vector<4>(tile_a + (k + q) * Ffma::kM + share<false, kRowLanes>(row, half * 4), a);
#pragma unroll
          for (int i = 0; i < 4; ++i)
#pragma unroll
            for (int j = 0; j < 4; ++j) sums[half * 4 + i][j] = fmaf(a[i], b[q][j], sums[half * 4 + i][j]);
        }
    }
  }
}

/// Rows `first`.. of a low-rank operand at steps from k, times `factor`, laid out like the operand it joins.
template <int kRows, bool kAlongK>
__device__ inline void load_low_rank(float* tile, const void* from, DType type, std::int64_t first, std::int64_t rows,
                                     int k, int depth, float factor) {
#pragma unroll 1
  for (int i = static_cast<int>(threadIdx.x); i < kRows * Ffma::kDepth; i += Ffma::kThreads) {
    const int row = i / Ffma::kDepth, step = i % Ffma::kDepth;
    const bool inside = first + row < rows && k + step < depth;
    tile[kAlongK ? row * (Ffma::kDepth + 4) + step : step * kRows + row] =
        inside ? factor * load_float(from, type, (first + row) * depth + k + step) : 0.0f;
  }
}

template <class LoadA, class LoadB>
__global__ void __launch_bounds__(Ffma::kThreads, 2) ffma_kernel(const Problem<LoadA, LoadB> p) {
  constexpr bool kAlongA = LoadA::kAlongK, kAlongB = LoadB::kAlongK;
  constexpr int kDepth = Ffma::kDepth, kStages = Ffma::kStages;
  constexpr int kTileA = Ffma::kM * (kDepth + 4), kStage = kTileA + Ffma::kN * (kDepth + 4);
  constexpr int kRowLanes = Ffma::kM / Ffma::kRows, kColumnLanes = Ffma::kN / Ffma::kColumns;
  float* const shared = dynamic_shared<float>();

  const BlockPlace own = block_place<Ffma::kM, Ffma::kN, kDepth>(p);
  LoadA a = p.a;
  LoadB b = p.b;
  const std::int64_t output = enter_layer(p, own.layer, a, b);
  const TileCopy<LoadA, FfmaLayout<Ffma::kM, kAlongA>, kAlongA ? Ffma::kM : kDepth, kAlongA ? kDepth : Ffma::kM,
                 Ffma::kThreads, kAlongA>
      copy_a(a, own.row);
  const TileCopy<LoadB, FfmaLayout<Ffma::kN, kAlongB>, kAlongB ? Ffma::kN : kDepth, kAlongB ? kDepth : Ffma::kN,
                 Ffma::kThreads, kAlongB>
      copy_b(b, own.column);
  const auto async = [](float* to, const float* from, int bytes) { copy_async(to, from, bytes); };
  const auto fill = [&](int step) {
    if (step < own.steps) {
      float* const stage = shared + step % kStages * kStage;
      copy_a.queue(own.k_first + std::int64_t{step} * kDepth, stage, async);
      copy_b.queue(own.k_first + std::int64_t{step} * kDepth, stage + kTileA, async);
    }
    copy_commit();
  };

  const int thread = static_cast<int>(threadIdx.x), row = thread / kColumnLanes, column = thread % kColumnLanes;
  float part[Ffma::kRows][Ffma::kColumns] = {}, sums[Ffma::kRows][Ffma::kColumns] = {};
  const auto close_part = [&] {
#pragma unroll
    for (int i = 0; i < Ffma::kRows; ++i)
#pragma unroll
      for (int j = 0; j < Ffma::kColumns; ++j) {
        sums[i][j] += part[i][j];
        part[i][j] = 0.0f;
      }
  };

#pragma unroll
  for (int step = 0; step < kStages - 1; ++step) fill(step);
#pragma unroll 1
  for (int step = 0; step < own.steps; ++step) {
    copy_wait<kStages - 2>();
    __syncthreads();
    fill(step + kStages - 1);
    const float* const stage = shared + step % kStages * kStage;
    multiply<kAlongA, kAlongB>(part, stage, stage + kTileA, row, column);
    if (step % Ffma::kPartSteps == Ffma::kPartSteps - 1) close_part();
  }
  copy_wait<0>();
#pragma unroll 1
  for (int k = 0; k < p.low_rank.k; k += kDepth) {
    const LowRank& low = p.low_rank;
    __syncthreads();
    load_low_rank<Ffma::kM, kAlongA>(shared, low.a, low.a_type, own.row, p.out.m, k, low.k, low.scale);
    load_low_rank<Ffma::kN, kAlongB>(shared + kTileA, low.b, low.b_type, own.column, p.out.n, k, low.k, 1.0f);
    __syncthreads();
    multiply<kAlongA, kAlongB>(part, shared, shared + kTileA, row, column);
  }
  close_part();
  __syncthreads();

#pragma unroll
  for (int i = 0; i < Ffma::kRows; ++i)
#pragma unroll
    for (int j = 0; j < Ffma::kColumns; ++j)
      shared[share<kAlongA, kRowLanes>(row, i) * Ffma::kPitch + share<kAlongB, kColumnLanes>(column, j)] = sums[i][j];
  __syncthreads();
  const ColumnValues columns = column_values(p.out, own.column + thread % (Ffma::kN / 8) * 8);
  finish_rows<Ffma::kM, Ffma::kN, Ffma::kThreads>(p.out, columns, shared, Ffma::kPitch, own.row, own.column, output,
                                                  thread);
}

}  // namespace eq::tile
