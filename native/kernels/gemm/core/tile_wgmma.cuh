// The bf16 tile kernel for sm_90a: one warp fills a ring of stages by bulk tensor copies, two warpgroups multiply 64 or
// 128 rows each by wgmma straight from shared memory; f32 sums in registers. Tiles of 128 x 128 leave room for two
// blocks on a multiprocessor, so that one's epilogue runs beside the other's products; tiles of 256 rows ask the
// second-level cache for a third less.
//
// A is k-major: rows of a matrix, or pixels of an image [B, H, W, C] seen through a convolution's taps (stride 1): a
// tile's consecutive output pixels are a box of the image, moved by each tap; what lies outside reads as zeros. B
// is k-major [taps][N][K] or not [K][N]. Low-rank operands are rounded into the first stage after the main loop, as in
// tile_mma.cuh. Sums are cut like those of mma.sync: results kept in f32 go elsewhere.
//
// No GPU has run this: no Hopper GPU was at hand when it was written. The tests run it in the shim, which carries out
// Hopper's instructions as the PTX ISA tells them (simt/async.h). It is used only after its results have agreed with
// the mma.sync kernel's on the device at hand (cuda_wgmma.cu).
#pragma once

#include "kernels/gemm/core/tile_epilogue.cuh"
#include "kernels/gemm/core/tile_permuted.cuh"
#include "runtime/cuda/hopper.cuh"

namespace eq::tile {

template <int M, int N, bool kTransposed, int Stages, int Blocks>
struct WgmmaConfig {
  static constexpr int kM = M, kN = N, kDepth = 64, kStages = Stages, kBlocks = Blocks;
  /// Products of 64 rows by each of the two warpgroups.
  static constexpr int kParts = M / 128;
  static constexpr bool kTransposedB = kTransposed;
  /// Where the sums need more registers than an even share, the copying warp is a warpgroup that hands on its own.
  static constexpr bool kUneven = M / 128 * N / 2 > 128;
  static constexpr int kConsumers = 256, kThreads = kConsumers + (kUneven ? 128 : 32);
  /// B's tile that is not k-major comes in boxes of 64 columns.
  static constexpr int kBoxes = (N + 63) / 64;
  static constexpr unsigned kBytesA = kM * kDepth * 2, kBytesB = (kTransposed ? kBoxes * 64 : N) * kDepth * 2;
  static constexpr unsigned kStage = kBytesA + kBytesB;
  static constexpr int kPitch = N + 8;  ///< of a warp's 16 staging rows a part, in floats
  /// The ring is aligned to 1024 bytes, and the barriers follow it.
  static constexpr unsigned shared_bytes() { return 1024 + kStages * kStage + 2 * kStages * 8; }
  static_assert(kConsumers / 32 * kParts * 16 * kPitch * 4 <= kStages * kStage);
};

/// Where the tiles of A and B lie in the tensor maps.
struct WgmmaSource {
  bool image = false;
  int steps = 0, steps_per_tap = 1;
  /// Output pixels of an image, and how a tap moves the box; the filter's taps in their order.
  int out_width = 1, out_height = 1, taps_x = 1, origin_y = 0, origin_x = 0, tap_step_y = 0, tap_step_x = 0;
  int filter_width = 1, first_y = 0, first_x = 0, step_y = 0, step_x = 0;
};

struct WgmmaProblem {
  WgmmaSource source;
  Grid grid;
  LowRank low_rank;
  Output out;
  /// Set when a copy does not arrive; null: told as a fault.
  unsigned* stuck = nullptr;
  Fault fault{};
};

#if EQ_HOPPER

/// One thread: queues the copies of every step.
template <class Config>
__device__ inline bool produce(const CUtensorMap& map_a, const CUtensorMap& map_b, const WgmmaSource& s, unsigned ring,
                               unsigned full, unsigned empty, int row, int column) {
  const int q = row % s.out_width, p = row / s.out_width % s.out_height, b = row / s.out_width / s.out_height;
#pragma unroll 1
  for (int step = 0; step < s.steps; ++step) {
    const int stage = step % Config::kStages, round = step / Config::kStages;
    if (round > 0 && !hopper::barrier_wait(empty + stage * 8, (round - 1) & 1)) return false;
    const unsigned to = ring + stage * Config::kStage, barrier = full + stage * 8;
    hopper::barrier_expect(barrier, Config::kStage);
    const int tap = step / s.steps_per_tap, k = (step - tap * s.steps_per_tap) * Config::kDepth;
    int filter_tap = 0;
    if (s.image) {
      const int j = tap / s.taps_x, i = tap - j * s.taps_x;
      hopper::copy_tile(to, &map_a, barrier, k, q + s.origin_x + i * s.tap_step_x, p + s.origin_y + j * s.tap_step_y,
                        b);
      filter_tap = (s.first_y + j * s.step_y) * s.filter_width + s.first_x + i * s.step_x;
    } else {
      hopper::copy_tile(to, &map_a, barrier, k, row);
    }
    if constexpr (Config::kTransposedB) {
#pragma unroll
      for (int box = 0; box < Config::kBoxes; ++box)
        hopper::copy_tile(to + Config::kBytesA + box * 64 * Config::kDepth * 2, &map_b, barrier, column + box * 64,
                          filter_tap * s.steps_per_tap * Config::kDepth + k);
    } else {
      hopper::copy_tile(to + Config::kBytesA, &map_b, barrier, k, column, filter_tap);
    }
  }
  return true;
}

/// The sums of a thread: by 64 rows of its warpgroup.
template <class Config>
using WgmmaSums = float[Config::kParts][Config::kN / 2];

/// Queues the products of one stage, kSteps times 16 of k. A's rows are those of the warpgroup.
template <class Config, bool kTransposedB, int kSteps = Config::kDepth / 16>
__device__ inline void multiply_stage(WgmmaSums<Config>& sums, unsigned tile_a, unsigned tile_b) {
  hopper::products_begin();
#pragma unroll
  for (int k = 0; k < kSteps; ++k) {
    const std::uint64_t b = kTransposedB ? hopper::descriptor(tile_b + k * 2048, 64 * Config::kDepth * 2)
                                         : hopper::descriptor(tile_b + k * 32, 16);
#pragma unroll
    for (int part = 0; part < Config::kParts; ++part) {
      const std::uint64_t a = hopper::descriptor(tile_a + part * 64 * Config::kDepth * 2 + k * 32, 16);
      hopper::WarpgroupProduct<Config::kN, kTransposedB>::add(sums[part], a, b);
    }
  }
  hopper::products_commit();
}

/// Waits until at most kPending groups of products are under way.
template <int kPending, class Config>
__device__ inline void wait_for_products(WgmmaSums<Config>& sums) {
#pragma unroll
  for (auto& part : sums) hopper::products_wait<kPending>(part);
}

/// Rounds both operands of a low-rank term, `chunks` (4 or 8) times eight steps from k, into k-major tiles as copies
/// leave them.
template <class Config>
__device__ inline void fill_low_rank_swizzled(const LowRank& low, const Output& out, bf16* tile_a, bf16* tile_b,
                                              int tile_row, int tile_column, int k, int chunks) {
  constexpr int kBatch = 2, kRows = Config::kM + Config::kN;
  const int shift = chunks == 4 ? 2 : 3, count = kRows << shift;
#pragma unroll 1
  for (int first = static_cast<int>(threadIdx.x); first < count; first += kBatch * Config::kConsumers) {
    float v[kBatch][8];
#pragma unroll
    for (int n = 0; n < kBatch; ++n) {
      const int i = first + n * Config::kConsumers, row = i >> shift, at = k + (i & (chunks - 1)) * 8;
      if (i >= count) break;
      if (row < Config::kM)
        load_low_rank(low.a, low.a_type, low.vectors, tile_row + row, out.m, at, low.k, low.scale, v[n]);
      else
        load_low_rank(low.b, low.b_type, low.vectors, tile_column + row - Config::kM, out.n, at, low.k, 1.0f, v[n]);
    }
#pragma unroll
    for (int n = 0; n < kBatch; ++n) {
      const int i = first + n * Config::kConsumers, row = i >> shift, chunk = i & (chunks - 1);
      if (i >= count) break;
      store_vector<8>(
          (row < Config::kM ? tile_a : tile_b) + Permuted<8>::at(row < Config::kM ? row : row - Config::kM, chunk),
          v[n]);
    }
  }
}

#endif

template <class Config>
__global__ void __launch_bounds__(Config::kThreads, Config::kBlocks)
    wgmma_kernel(const __grid_constant__ CUtensorMap map_a, const __grid_constant__ CUtensorMap map_b,
                 const __grid_constant__ WgmmaProblem p) {
#if EQ_HOPPER
  constexpr int kStages = Config::kStages;
  unsigned char* const raw = dynamic_shared<unsigned char>();
  unsigned char* const ring = raw + (1024 - shared_address(raw) % 1024) % 1024;
  const unsigned ring_at = shared_address(ring), full = ring_at + kStages * Config::kStage, empty = full + kStages * 8;

  const GridPlace place = grid_place(p.grid, blockIdx.x);
  const int tile_row = static_cast<int>(place.row) * Config::kM;
  const int tile_column = static_cast<int>(place.column) * Config::kN;
  if (threadIdx.x == 0) {
    for (int i = 0; i < kStages; ++i) {
      hopper::barrier_init(full + i * 8, 1);
      hopper::barrier_init(empty + i * 8, Config::kConsumers / 32);
    }
    hopper::barrier_init_fence();
  }
  __syncthreads();

  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const auto give_up = [&] {
    if (p.stuck)
      *p.stuck = 1;
    else
      raise(p.fault);
  };
  if (warp >= Config::kConsumers / 32) {
    if constexpr (Config::kUneven) hopper::give_registers<40>();
    if (threadIdx.x == Config::kConsumers) {
      hopper::prefetch_map(&map_a);
      hopper::prefetch_map(&map_b);
      if (!produce<Config>(map_a, map_b, p.source, ring_at, full, empty, tile_row, tile_column)) give_up();
    }
    return;
  }

  if constexpr (Config::kUneven) hopper::take_registers<232>();

  const int first_row = warp / 4 * Config::kM / 2;  // of the warpgroup
  WgmmaSums<Config> sums;
#pragma unroll
  for (auto& part : sums)
#pragma unroll
    for (float& x : part) x = 0.0f;
  const unsigned own_a = first_row * Config::kDepth * 2;
#pragma unroll 1
  for (int step = 0; step < p.source.steps; ++step) {
    const int stage = step % kStages;
    if (!hopper::barrier_wait(full + stage * 8, step / kStages & 1)) {
      give_up();
      break;
    }
    const unsigned tile = ring_at + stage * Config::kStage;
    multiply_stage<Config, Config::kTransposedB>(sums, tile + own_a, tile + Config::kBytesA);
    // The warp's products of the step before are done: when all warps' are, its stage may be filled again.
    wait_for_products<1, Config>(sums);
    if (step > 0 && lane == 0) hopper::barrier_arrive(empty + (step - 1) % kStages * 8);
  }
  wait_for_products<0, Config>(sums);
  // Both warpgroups have done with the ring, and every copy has arrived.
  hopper::named_barrier(1, Config::kConsumers);
#pragma unroll 1
  for (int k = 0; k < p.low_rank.k; k += Config::kDepth) {
    bf16* const tile_a = reinterpret_cast<bf16*>(ring);
    const int chunks = p.low_rank.k - k <= 32 ? 4 : 8;
    fill_low_rank_swizzled<Config>(p.low_rank, p.out, tile_a, tile_a + Config::kM * Config::kDepth, tile_row,
                                   tile_column, k, chunks);
    hopper::fence_shared();
    hopper::named_barrier(1, Config::kConsumers);
    if (chunks == 4) {
      multiply_stage<Config, false, 2>(sums, ring_at + own_a, ring_at + Config::kBytesA);
      wait_for_products<0, Config>(sums);
    } else {
      multiply_stage<Config, false>(sums, ring_at + own_a, ring_at + Config::kBytesA);
      wait_for_products<0, Config>(sums);
    }
    hopper::named_barrier(1, Config::kConsumers);
  }

  constexpr int kStaging = 16 * Config::kPitch;
  float* const staging = reinterpret_cast<float*>(ring) + warp * Config::kParts * kStaging;
#pragma unroll
  for (int part = 0; part < Config::kParts; ++part)
#pragma unroll
    for (int j = 0; j < Config::kN / 8; ++j)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float* const to = staging + part * kStaging + (lane / 4 + half * 8) * Config::kPitch + j * 8 + lane % 4 * 2;
        *reinterpret_cast<float2*>(to) = make_float2(sums[part][j * 4 + 2 * half], sums[part][j * 4 + 2 * half + 1]);
      }
  __syncwarp();
#pragma unroll 1
  for (int column = 0; column < Config::kN; column += 32) {
    const ColumnValues columns = column_values(p.out, tile_column + column + lane % 4 * 8);
#pragma unroll 1
    for (int part = 0; part < Config::kParts; ++part) {
      float* const own = staging + part * kStaging + column;
      const int row = tile_row + first_row + part * 64 + warp % 4 * 16;
      const bool added = p.out.epilogue.addend != nullptr;
      if (added) add_rows<16, 32, 32>(p.out, columns, own, Config::kPitch, row, tile_column + column, 0, lane);
      finish_rows<16, 32, 32>(p.out, columns, own, Config::kPitch, row, tile_column + column, 0, lane, added);
    }
  }
#else
  __trap();
#endif
}

}  // namespace eq::tile
