// One sampler step in one pass over the latents, and the summand of mutual information with it: op.h.
//
//   d = c - u;  eps = u + g d;  x' = cx x + ce eps + cn z;  mi_b = w sum_e d^2
//
// Bytes: 5 n elements without noise, 6 n with (10 and 12 bytes per latent in bf16); FLOPs: 10 n and 12 n. The floor at
// 4.3 TB/s is 1.9 us for 50 samples of 4 x 64 x 64 in bf16, where a launch costs more.
//
// Launch: 512 threads; a block per sample (16,384 latents at 64 x 64), or per sum block of 16,384 where the samples do
// not fill the device; no dynamic shared memory. 16-byte accesses of the widest storage, two vectors of each input in
// flight per thread: 2 x 512 x 96 bytes per multiprocessor, above what the memory latency asks for.
//
// Tried on paper and left out: a counter of finished blocks, to split one sample over several blocks in one launch.
// Its round trip to memory costs what the split saves at 50 samples.
//
// Limits: storages are compiled in pairs (u with c, x with z); other mixtures, and samples whose size is no multiple
// of the vector, go element by element.
#include "kernels/diffusion/sum_blocks.cuh"
#include "op.h"

namespace eq {

namespace {

using namespace sums;

/// Steps kVectors vectors of kN elements, `stride` apart, and returns their sum of squared differences. All loads come
/// before the first store, which the compiler could not move them over.
template <class E, class X, bool kNoisy, int kN, int kVectors>
__device__ inline float step(const GuidedStepArgs& a, std::int64_t at, std::int64_t stride) {
  float u[kVectors][kN], c[kVectors][kN], x[kVectors][kN], z[kVectors][kN];
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
    load_at<E>(a.uncond, a.uncond_type, at + v * stride, u[v]);
    load_at<E>(a.cond, a.cond_type, at + v * stride, c[v]);
    load_at<X>(a.latents, a.latents_type, at + v * stride, x[v]);
    if constexpr (kNoisy) load_at<X>(a.noise, a.noise_type, at + v * stride, z[v]);
  }
  float sum = 0;
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
    float eps[kN], next[kN];
#pragma unroll
    for (int i = 0; i < kN; ++i) {
      const float difference = c[v][i] - u[v][i];
      sum += difference * difference;
      eps[i] = u[v][i] + a.guidance * difference;
      next[i] = a.cx * x[v][i] + a.ce * eps[i];
      if constexpr (kNoisy) next[i] += a.cn * z[v][i];
    }
    store_at<E>(a.eps, a.uncond_type, at + v * stride, eps);
    store_at<X>(a.next, a.latents_type, at + v * stride, next);
  }
  return sum;
}

template <class E, class X, bool kNoisy>
__global__ void __launch_bounds__(kThreads, kBlocksPerProcessor)
    step_samples(GuidedStepArgs a, Split split, std::int64_t items) {
  constexpr int kN = kLanes<E, X>;
  __shared__ double shared[kThreads / 32];
  for (std::int64_t item = blockIdx.x; item < items; item += gridDim.x) {
    const Range range = item_range(split, item);
    const double total =
        range_sum<kN>(range.begin, range.end, shared, [&a](auto vectors, std::int64_t at, std::int64_t stride) {
          return step<E, X, kNoisy, kN, vectors>(a, at, stride);
        });
    if (threadIdx.x != 0) continue;
    if (split.pieced)
      a.partial[item] = total;
    else
      a.mi[range.sample] = static_cast<float>(static_cast<double>(a.mi_weight) * total);
  }
}

template <class E, class X>
void launch(Device& device, const OpInfo& info, const GuidedStepArgs& a) {
  const Split split = split_samples(device, a.samples, a.per_sample, a.blocks());
  const auto grid = static_cast<unsigned>(std::min<std::int64_t>(split.items(), 0x7fffffff));
  launch_kernel(device, info, a.noise != nullptr ? step_samples<E, X, true> : step_samples<E, X, false>,
                {.grid_x = grid, .block = kThreads}, a, split, split.items());
  finish(device, info, split, a.partial, nullptr, a.mi_weight, a.mi);
}

}  // namespace

void guided_step_launch(Device& device, const OpInfo& info, const GuidedStepArgs& args) {
  const bool paired =
      args.uncond_type == args.cond_type && (args.noise == nullptr || args.latents_type == args.noise_type);
  const auto choose = [&](auto e, auto x) {
    using E = decltype(e);
    using X = decltype(x);
    if (paired &&
        all_fit(args.per_sample, kLanes<E, X>, args.uncond, args.cond, args.latents, args.noise, args.next, args.eps))
      launch<E, X>(device, info, args);
    else
      launch<AnyFloat, AnyFloat>(device, info, args);
  };
  with_float_type(args.uncond_type, [&](auto e) { with_float_type(args.latents_type, [&](auto x) { choose(e, x); }); });
}

}  // namespace eq
