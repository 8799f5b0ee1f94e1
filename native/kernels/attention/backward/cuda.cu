// Gradient of fused attention on tensor cores (op.h; Dao, "FlashAttention-2", 2023). Two kernels, so that no sum needs
// atomics and equal input gives equal bits; scores are computed in both:
//   key kernel    a block holds 64 keys, 16 per warp, walks over tiles of queries and keeps dK and dV in registers;
//                 scores are transposed (keys by queries), so that they are the left operand of both further products
//   query kernel  a block holds 64 queries, walks over tiles of keys and keeps dQ
// Before them delta_kernel sums dO O over each head's channels, one warp per row.
//
// FLOPs 14 B H pairs D; bytes: q, k, v, dO about twice, the rest once. Launch: 4 warps; shared memory (128 + 4 tile) *
// depth * 2 bytes with tiles of 64 rows at depth 64, of 32 above.
#include "kernels/attention/backward/op.h"

#include "kernels/attention/flash.cuh"
#include "kernels/attention/unfused.h"
#include "kernels/gemm/core/tile_gemm.h"
#include "runtime/cuda/reduce.cuh"

namespace eq {

namespace {

constexpr int kWarps = 4, kThreads = kWarps * 32, kRows = kWarps * 16;

struct FusedArgs {
  const bf16 *q, *k, *v, *dy;
  bf16 *dq, *dk, *dv;
  const float *logsumexp, *delta;
  std::int64_t lq, lk, pitch;
  int heads, depth;
  unsigned blocks;  ///< of a head
  bool causal;
  float scale;
};

struct DeltaArgs {
  const void *out, *dy;
  DType out_type, dy_type;
  float* delta;
  std::int64_t rows, lq, heads, depth;
};

__global__ void __launch_bounds__(256) delta_kernel(const DeltaArgs a) {
  const std::int64_t warps = std::int64_t{gridDim.x} * 8;
  for (std::int64_t i = std::int64_t{blockIdx.x} * 8 + threadIdx.x / 32; i < a.rows; i += warps) {
    // i counts (batch, head, query) as delta lies.
    const std::int64_t head_index = i / a.lq, query = i - head_index * a.lq, batch = head_index / a.heads;
    const std::int64_t at = ((batch * a.lq + query) * a.heads + head_index - batch * a.heads) * a.depth;
    float sum = 0.0f;
    for (std::int64_t d = threadIdx.x % 32; d < a.depth; d += 32)
      sum += load_float(a.out, a.out_type, at + d) * load_float(a.dy, a.dy_type, at + d);
    sum = warp_sum(sum);
    if (threadIdx.x % 32 == 0) a.delta[i] = sum;
  }
}

struct Place {
  std::int64_t batch, channel, first;
  unsigned head_index;
};
__device__ Place place_of(const FusedArgs& a) {
  const unsigned head_index = blockIdx.x / a.blocks, block = blockIdx.x - head_index * a.blocks;
  return {static_cast<std::int64_t>(head_index / a.heads), static_cast<std::int64_t>(head_index % a.heads) * a.depth,
          std::int64_t{block} * kRows, head_index};
}

/// kKeys, kValues: which of dK and dV; both need more registers than there are at depth 160.
template <int kD, int kTile, bool kKeys, bool kValues>
__global__ void __launch_bounds__(kThreads, kD == 64 ? 2 : 1) key_kernel(const FusedArgs a) {
  constexpr int kTiles = kTile / 8, kStage = 2 * kTile * kD;
  bf16* const keys = dynamic_shared<bf16>();
  bf16* const values = keys + kRows * kD;
  bf16* const ring = values + kRows * kD;                              // [2][queries, dO][kTile][kD]
  float* const numbers = reinterpret_cast<float*>(ring + 2 * kStage);  // [2][logsumexp, delta][kTile]

  const Place at = place_of(a);
  const flash::Head q{a.q + at.batch * a.lq * a.pitch + at.channel, a.pitch, a.lq, a.depth};
  const flash::Head dy{a.dy + at.batch * a.lq * a.pitch + at.channel, a.pitch, a.lq, a.depth};
  const flash::Head k{a.k + at.batch * a.lk * a.pitch + at.channel, a.pitch, a.lk, a.depth};
  const flash::Head v{a.v + at.batch * a.lk * a.pitch + at.channel, a.pitch, a.lk, a.depth};
  const std::int64_t shift = a.lk - a.lq;  // query i sees keys up to i + shift
  const std::int64_t seen_from = a.causal && at.first > shift ? (at.first - shift) / kTile : 0;
  const int first_step = static_cast<int>(seen_from), steps = static_cast<int>((a.lq + kTile - 1) / kTile);
  flash::RowStream<kD, kTile, kThreads> next_queries(q, seen_from * kTile), next_upstream(dy, seen_from * kTile);
  const auto fill = [&](int step) {
    bf16* const to = ring + step % 2 * kStage;
    next_queries.queue(to);
    next_upstream.queue(to + kTile * kD);
    copy_commit();
    if (threadIdx.x < kTile) {
      const std::int64_t row = std::int64_t{step} * kTile + threadIdx.x, i = at.head_index * a.lq + row;
      float* const pair = numbers + step % 2 * 2 * kTile + threadIdx.x;
      // Queries that do not exist have probability 2^-infinity.
      pair[0] = row < a.lq ? a.logsumexp[i] * flash::kLog2E : __builtin_huge_valf();
      pair[kTile] = row < a.lq ? a.delta[i] : 0.0f;
    }
  };
  flash::queue_rows<kD, kRows, kThreads>(keys, k, at.first);
  flash::queue_rows<kD, kRows, kThreads>(values, v, at.first);
  fill(first_step);  // exists: the last query sees every key

  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const std::int64_t row = at.first + warp * 16 + lane / 4;
  const float scale = a.scale * flash::kLog2E;
  float dk[kD / 8][4], dv[kD / 8][4];
  flash::clear(dk);
  flash::clear(dv);
#pragma unroll 1
  for (int step = first_step; step < steps; ++step) {
    copy_wait<0>();
    __syncthreads();
    if (step + 1 < steps) fill(step + 1);
    const bf16* const queries = ring + step % 2 * kStage;
    const bf16* const upstream = queries + kTile * kD;
    const float* const pairs = numbers + step % 2 * 2 * kTile;
    float p[kTiles][4];
    flash::clear(p);
    flash::multiply_lines<kD>(p, keys, warp * 16, queries);
    // The first query that sees the lane's keys, relative to the tile.
    const std::int64_t query = std::int64_t{step} * kTile;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const std::int64_t from = a.causal ? row + half * 8 - shift - query : 0;
      const int visible = from < kTile ? from > 0 ? static_cast<int>(from) : 0 : kTile;
#pragma unroll
      for (int j = 0; j < kTiles; ++j)
#pragma unroll
        for (int x = 0; x < 2; ++x) {
          const int column = j * 8 + lane % 4 * 2 + x;
          float& score = p[j][2 * half + x];
          score = column >= visible ? power_of_two(score * scale - pairs[column]) : 0.0f;
        }
    }
    if constexpr (kValues) flash::multiply_steps<kD>(dv, p, upstream);
    if constexpr (kKeys) {
      float ds[kTiles][4];
      flash::clear(ds);
      flash::multiply_lines<kD>(ds, values, warp * 16, upstream);
#pragma unroll
      for (int j = 0; j < kTiles; ++j)
#pragma unroll
        for (int x = 0; x < 4; ++x) ds[j][x] = p[j][x] * (ds[j][x] - pairs[kTile + j * 8 + lane % 4 * 2 + x % 2]);
      flash::multiply_steps<kD>(dk, ds, queries);
    }
  }
  copy_wait<0>();
  __syncthreads();
  const std::int64_t to = at.batch * a.lk * a.pitch + at.channel;
  const std::int64_t own = at.first + warp * 16;
  if constexpr (kKeys)
    flash::store_rows<kD>(keys + warp * 16 * kD, dk, a.scale, a.scale, a.dk + to, a.pitch, own, a.lk, a.depth);
  if constexpr (kValues)
    flash::store_rows<kD>(values + warp * 16 * kD, dv, 1.0f, 1.0f, a.dv + to, a.pitch, own, a.lk, a.depth);
}

template <int kD, int kTile>
__global__ void __launch_bounds__(kThreads, kD == 64 ? 2 : 1) query_kernel(const FusedArgs a) {
  constexpr int kTiles = kTile / 8, kStage = 2 * kTile * kD;
  bf16* const queries = dynamic_shared<bf16>();
  bf16* const upstream = queries + kRows * kD;
  bf16* const ring = upstream + kRows * kD;  // [2][keys, values][kTile][kD]

  const Place at = place_of(a);
  const flash::Head q{a.q + at.batch * a.lq * a.pitch + at.channel, a.pitch, a.lq, a.depth};
  const flash::Head dy{a.dy + at.batch * a.lq * a.pitch + at.channel, a.pitch, a.lq, a.depth};
  const flash::Head k{a.k + at.batch * a.lk * a.pitch + at.channel, a.pitch, a.lk, a.depth};
  const flash::Head v{a.v + at.batch * a.lk * a.pitch + at.channel, a.pitch, a.lk, a.depth};
  const std::int64_t shift = a.lk - a.lq + 1;
  const std::int64_t last = at.first + kRows < a.lq ? at.first + kRows : a.lq;
  const std::int64_t end = a.causal ? last - 1 + shift : a.lk;
  const int steps = static_cast<int>((end + kTile - 1) / kTile);
  flash::RowStream<kD, kTile, kThreads> next_keys(k, 0), next_values(v, 0);
  const auto fill = [&](int step) {
    bf16* const to = ring + step % 2 * kStage;
    next_keys.queue(to);
    next_values.queue(to + kTile * kD);
    copy_commit();
  };
  flash::queue_rows<kD, kRows, kThreads>(queries, q, at.first);
  flash::queue_rows<kD, kRows, kThreads>(upstream, dy, at.first);
  fill(0);

  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const std::int64_t row = at.first + warp * 16 + lane / 4;
  const float scale = a.scale * flash::kLog2E;
  float logsumexp[2], delta[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const std::int64_t i = at.head_index * a.lq + row + half * 8;
    const bool inside = row + half * 8 < a.lq;
    logsumexp[half] = inside ? a.logsumexp[i] * flash::kLog2E : __builtin_huge_valf();
    delta[half] = inside ? a.delta[i] : 0.0f;
  }
  float dq[kD / 8][4];
  flash::clear(dq);
#pragma unroll 1
  for (int step = 0; step < steps; ++step) {
    copy_wait<0>();
    __syncthreads();
    if (step + 1 < steps) fill(step + 1);
    const bf16* const keys = ring + step % 2 * kStage;
    float p[kTiles][4], ds[kTiles][4];
    flash::clear(p);
    flash::multiply_lines<kD>(p, queries, warp * 16, keys);
    flash::clear(ds);
    flash::multiply_lines<kD>(ds, upstream, warp * 16, keys + kTile * kD);
    const std::int64_t key = std::int64_t{step} * kTile;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const std::int64_t seen = a.causal ? row + half * 8 + shift : a.lk, left = (seen < a.lk ? seen : a.lk) - key;
      const int visible = left < kTile ? static_cast<int>(left) : kTile;
#pragma unroll
      for (int j = 0; j < kTiles; ++j)
#pragma unroll
        for (int x = 2 * half; x < 2 * half + 2; ++x) {
          const float probability = power_of_two(p[j][x] * scale - logsumexp[half]);
          ds[j][x] = j * 8 + lane % 4 * 2 + x % 2 < visible ? probability * (ds[j][x] - delta[half]) : 0.0f;
        }
    }
    flash::multiply_steps<kD>(dq, ds, keys);
  }
  flash::store_rows<kD>(queries + warp * 16 * kD, dq, a.scale, a.scale, a.dq + at.batch * a.lq * a.pitch + at.channel,
                        a.pitch, at.first + warp * 16, a.lq, a.depth);
}

void fused_grad(Device& device, const OpInfo& info, const AttentionGradArgs& args, const float* delta) {
  const AttentionDims& d = args.dims;
  const void* dy = args.dy;
  Tensor narrow;
  if (args.dy_type != DType::BF16) {
    const std::int64_t rows = d.batch * d.lq, channels = d.channels();
    narrow = tile::pack_lines(device, info, {dy, args.dy_type, {rows, 1, 1}, {channels, 0, 0}, 1, channels, channels},
                              DType::BF16);
    dy = narrow.data();
  }
  const auto blocks_of = [](std::int64_t rows) { return (rows + kRows - 1) / kRows; };
  check_range(std::max(blocks_of(d.lq), blocks_of(d.lk)) * d.batch * d.heads < std::int64_t{1} << 31, info.name,
              ": more than 2^31 blocks of rows");
  FusedArgs fused{static_cast<const bf16*>(args.q),
                  static_cast<const bf16*>(args.k),
                  static_cast<const bf16*>(args.v),
                  static_cast<const bf16*>(dy),
                  static_cast<bf16*>(args.dq),
                  static_cast<bf16*>(args.dk),
                  static_cast<bf16*>(args.dv),
                  args.logsumexp,
                  delta,
                  d.lq,
                  d.lk,
                  d.channels(),
                  static_cast<int>(d.heads),
                  static_cast<int>(d.depth),
                  0,
                  d.causal,
                  d.scale};
  flash::with_depth(d.depth, [&](auto depth) {
    constexpr int kD = depth(), kTile = kD == 64 ? 64 : 32;
    constexpr unsigned kShared = (2 * kRows + 4 * kTile) * kD * 2, kNumbers = 4 * kTile * sizeof(float);
    fused.blocks = static_cast<unsigned>(blocks_of(d.lk));
    const Launch keys{static_cast<unsigned>(fused.blocks * d.batch * d.heads), 1, 1, kThreads, kShared + kNumbers};
    if constexpr (kD < 160) {
      launch_kernel(device, info, key_kernel<kD, kTile, true, true>, keys, fused);
    } else {
      launch_kernel(device, info, key_kernel<kD, kTile, true, false>, keys, fused);
      launch_kernel(device, info, key_kernel<kD, kTile, false, true>, keys, fused);
    }
    fused.blocks = static_cast<unsigned>(blocks_of(d.lq));
    launch_kernel(device, info, query_kernel<kD, kTile>,
                  Launch{static_cast<unsigned>(fused.blocks * d.batch * d.heads), 1, 1, kThreads, kShared}, fused);
  });
}

}  // namespace

void attention_grad_launch(Device& device, const OpInfo& info, const AttentionGradArgs& args) {
  const AttentionDims& d = args.dims;
  if (d.batch == 0) return;
  if (d.lq == 0) {
    const auto size = static_cast<std::size_t>(d.batch * d.lk * d.channels());
    fill_bytes(device, args.dk, 0, size * dtype_size(args.k_type));
    fill_bytes(device, args.dv, 0, size * dtype_size(args.v_type));
    return;
  }
  const Tensor delta = device.empty(DType::F32, {d.batch, d.heads, d.lq});
  const std::int64_t rows = d.batch * d.heads * d.lq;
  launch_kernel(
      device, info, delta_kernel, Launch{grid_for(device, rows, 8), 1, 1, 256},
      DeltaArgs{args.out, args.dy, args.out_type, args.dy_type, delta.data<float>(), rows, d.lq, d.heads, d.depth});
  if (flash::fits(d, args.q_type, args.k_type, args.v_type))
    fused_grad(device, info, args, delta.data<float>());
  else
    flash::unfused_attention_grad(device, info, args, delta.data<float>());
}

}  // namespace eq
