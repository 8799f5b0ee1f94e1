#include "kernels/blocks.h"
#include "op.h"
#include "runtime/cpu/device.h"

EQ_DECLARE_ISA(void guided_step_compute(const GuidedStepArgs& a, ThreadPool& pool))

namespace eq::EQ_ISA {

/// Steps one block of one sample and returns its sum of squares.
template <bool kNoisy>
static double step_block(const GuidedStepArgs& a, std::int64_t sample, std::int64_t block) {
  const Source uncond{a.uncond, a.uncond_type}, cond{a.cond, a.cond_type}, latents{a.latents, a.latents_type};
  const Source noise{a.noise, a.noise_type};
  const Target next{a.next, a.latents_type}, guided{a.eps, a.uncond_type};
  const std::int64_t begin = sample * a.per_sample + block * kSumBlock;
  const std::int64_t end = sample * a.per_sample + std::min(a.per_sample, (block + 1) * kSumBlock);
  BlockBuffer us, cs, xs, zs, ns, es;
  double total = 0;
  for_blocks(begin, end, [&](std::int64_t at, std::int64_t n) {
    const float *u = uncond.block(at, n, us), *c = cond.block(at, n, cs), *x = latents.block(at, n, xs);
    const float* z = kNoisy ? noise.block(at, n, zs) : nullptr;
    float *to = next.block(at, ns), *eps_to = guided.block(at, es);
    vf sum{};
    for_vectors(n, [&](auto load, auto store) {
      const vf base = load(u), difference = load(c) - base;
      sum += difference * difference;
      const vf eps = base + a.guidance * difference;
      vf moved = a.cx * load(x) + a.ce * eps;
      if constexpr (kNoisy) moved += a.cn * load(z);
      store(eps_to, eps);
      store(to, moved);
    });
    next.commit(at, n, ns);
    guided.commit(at, n, es);
    total += static_cast<double>(lane_sum(sum));
  });
  return total;
}

void guided_step_compute(const GuidedStepArgs& a, ThreadPool& pool) {
  const std::int64_t blocks = a.blocks();
  pool.parallel_for(a.samples * blocks, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      a.partial[i] = a.noise != nullptr ? step_block<true>(a, i / blocks, i % blocks)
                                        : step_block<false>(a, i / blocks, i % blocks);
    }
  });
  for (std::int64_t b = 0; b < a.samples; ++b) {
    double total = 0;
    for (std::int64_t i = 0; i < blocks; ++i) total += a.partial[b * blocks + i];
    a.mi[b] = static_cast<float>(static_cast<double>(a.mi_weight) * total);
  }
}

}  // namespace eq::EQ_ISA

#if EQ_ISA_BASE
namespace eq {

void guided_step_launch(Device& device, const OpInfo& info, const GuidedStepArgs& args) {
  cpu(device).launch(info, [args](ThreadPool& pool) { EQ_DISPATCH(guided_step_compute)(args, pool); });
}

}  // namespace eq
#endif
