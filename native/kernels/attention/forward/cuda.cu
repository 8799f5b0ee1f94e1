// Fused attention on tensor cores (Dao, "FlashAttention-2", 2023): a block holds 16 queries per warp, walks over tiles
// of 64 keys, two of them in shared memory, and keeps the softmax and the sums of its queries in registers. Products of
// bf16, sums and softmax in f32; probabilities are rounded to bf16 for the second product.
//
// FLOPs 4 B H pairs D; bytes: q and out once, k and v once per block of queries (mostly from second-level cache).
// Launch: a block per 128 queries (64 at depth 160) of a head; 8 (4) warps; shared memory (queries + 256) * depth * 2
// bytes: 48 KB at depth 64, two blocks on a multiprocessor.
#include "kernels/attention/forward/op.h"

#include "kernels/attention/flash.cuh"
#include "kernels/attention/unfused.h"
#include "runtime/cuda/cluster.cuh"

namespace eq {

namespace {

constexpr int kKeys = 64;
constexpr float kNone = -__builtin_huge_valf();

struct FusedArgs {
  const bf16 *q, *k, *v;
  bf16* out;
  float* logsumexp;
  std::int64_t lq, lk, pitch;
  int heads, depth;
  unsigned query_blocks;
  bool causal;
  float scale;
};

/// The maximum or sum over the four lanes that share a row.
__device__ float quad_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
  return fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
}
__device__ float quad_sum(float x) {
  x += __shfl_xor_sync(0xffffffffu, x, 1);
  return x + __shfl_xor_sync(0xffffffffu, x, 2);
}

/// One step of the online softmax over the two rows of a lane: products become probabilities relative to the new
/// maximum (in base 2 and times `scale`, which is positive), sums and outputs are rescaled to it. `top` is that of the
/// products.
template <int kTiles, int kOut>
__device__ void soften(float (&s)[kTiles][4], float scale, float (&top)[2], float (&total)[2], float (&out)[kOut][4]) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float highest = kNone;
#pragma unroll
    for (int j = 0; j < kTiles; ++j) highest = fmaxf(highest, fmaxf(s[j][2 * half], s[j][2 * half + 1]));
    const float next = fmaxf(top[half], quad_max(highest));
    // Rows that see nothing yet keep exponents finite.
    const float base = next == kNone ? 0.0f : next * scale;
    const float shrink = power_of_two(fmaf(top[half], scale, -base));
    float sum = 0.0f;
#pragma unroll
    for (int j = 0; j < kTiles; ++j)
#pragma unroll
      for (int x = 2 * half; x < 2 * half + 2; ++x) sum += s[j][x] = power_of_two(fmaf(s[j][x], scale, -base));
    total[half] = total[half] * shrink + sum;
    top[half] = next;
#pragma unroll
    for (int d = 0; d < kOut; ++d) {
      out[d][2 * half] *= shrink;
      out[d][2 * half + 1] *= shrink;
    }
  }
}

template <int kD, int kWarps>
__global__ void __launch_bounds__(kWarps * 32, kD == 64 ? 2 : 1) attention_kernel(const FusedArgs a) {
  constexpr int kThreads = kWarps * 32, kQueries = kWarps * 16, kTiles = kKeys / 8;
  bf16* const queries = dynamic_shared<bf16>();
  bf16* const ring = queries + kQueries * kD;  // [2][keys, values][kKeys][kD]

  const unsigned head_index = blockIdx.x / a.query_blocks, block = blockIdx.x - head_index * a.query_blocks;
  const std::int64_t batch = head_index / a.heads, channel = static_cast<std::int64_t>(head_index % a.heads) * a.depth;
  const flash::Head q{a.q + batch * a.lq * a.pitch + channel, a.pitch, a.lq, a.depth};
  const flash::Head k{a.k + batch * a.lk * a.pitch + channel, a.pitch, a.lk, a.depth};
  const flash::Head v{a.v + batch * a.lk * a.pitch + channel, a.pitch, a.lk, a.depth};
  const std::int64_t first = std::int64_t{block} * kQueries, shift = a.lk - a.lq + 1;
  const std::int64_t last = first + kQueries < a.lq ? first + kQueries : a.lq;
  const std::int64_t end = a.causal ? last - 1 + shift : a.lk;  // keys that the block's last query sees
  const int steps = static_cast<int>((end + kKeys - 1) / kKeys);
  flash::RowStream<kD, kKeys, kThreads> next_keys(k, 0), next_values(v, 0);
  const auto fill = [&](int step) {
    bf16* const to = ring + step % 2 * 2 * kKeys * kD;
    next_keys.queue(to);
    next_values.queue(to + kKeys * kD);
    copy_commit();
  };
  flash::queue_rows<kD, kQueries, kThreads>(queries, q, first);
  fill(0);

  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const std::int64_t row = first + warp * 16 + lane / 4;
  const float scale = a.scale * flash::kLog2E;
  float out[kD / 8][4], top[2] = {kNone, kNone}, total[2] = {0.0f, 0.0f};
  flash::clear(out);
#pragma unroll 1
  for (int step = 0; step < steps; ++step) {
    copy_wait<0>();
    // Tile `step` is there for all, and all have done with the tile that the next copies replace.
    __syncthreads();
    if (step + 1 < steps) fill(step + 1);
    const bf16* const keys = ring + step % 2 * 2 * kKeys * kD;
    float s[kTiles][4];
    flash::clear(s);
    flash::multiply_lines<kD>(s, queries, warp * 16, keys);
    const std::int64_t key = std::int64_t{step} * kKeys;
    if (key + kKeys > (a.causal ? first + shift : a.lk)) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const std::int64_t seen = a.causal ? row + half * 8 + shift : a.lk, left = (seen < a.lk ? seen : a.lk) - key;
        const int visible = left < kKeys ? static_cast<int>(left) : kKeys;
#pragma unroll
        for (int j = 0; j < kTiles; ++j)
#pragma unroll
          for (int x = 0; x < 2; ++x)
            if (j * 8 + lane % 4 * 2 + x >= visible) s[j][2 * half + x] = kNone;
      }
    }
    soften(s, scale, top, total, out);
    flash::multiply_steps<kD>(out, s, keys + kKeys * kD);
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    total[half] = quad_sum(total[half]);
    if (lane % 4 == 0 && row + half * 8 < a.lq)
      a.logsumexp[head_index * a.lq + row + half * 8] = top[half] * a.scale + logf(total[half]);
  }
  bf16* const to = a.out + batch * a.lq * a.pitch + channel;
  flash::store_rows<kD>(queries + warp * 16 * kD, out, 1.0f / total[0], 1.0f / total[1], to, a.pitch, first + warp * 16,
                        a.lq, a.depth);
}

}  // namespace

std::size_t attention_scratch_bytes(const AttentionArgs&) { return 0; }

void attention_launch(Device& device, const OpInfo& info, const AttentionArgs& args) {
  const AttentionDims& d = args.dims;
  if (!flash::fits(d, args.q_type, args.k_type, args.v_type) || !(d.scale > 0.0f))
    return flash::unfused_attention(device, info, args);
  flash::with_depth(d.depth, [&](auto depth) {
    constexpr int kD = depth(), kWarps = kD == 160 ? 4 : 8;
    constexpr unsigned kShared = (kWarps * 16 + 4 * kKeys) * kD * 2;
    // 100 KiB for the deepest heads: more than a block has where a multiprocessor has 100 (8.6, 8.9, 12.0).
    if (kShared > most_shared(device, 0)) return flash::unfused_attention(device, info, args);
    const std::int64_t query_blocks = (d.lq + kWarps * 16 - 1) / (kWarps * 16);
    check_range(query_blocks * d.batch * d.heads < std::int64_t{1} << 31, info.name,
                ": more than 2^31 blocks of queries");
    const FusedArgs fused{static_cast<const bf16*>(args.q),
                          static_cast<const bf16*>(args.k),
                          static_cast<const bf16*>(args.v),
                          static_cast<bf16*>(args.out),
                          args.logsumexp,
                          d.lq,
                          d.lk,
                          d.channels(),
                          static_cast<int>(d.heads),
                          static_cast<int>(d.depth),
                          static_cast<unsigned>(query_blocks),
                          d.causal,
                          d.scale};
    launch_kernel(device, info, attention_kernel<kD, kWarps>,
                  Launch{static_cast<unsigned>(query_blocks * d.batch * d.heads), 1, 1, kWarps * 32, kShared}, fused);
  });
}

}  // namespace eq
