#include "kernels/blocks.h"
#include "op.h"
#include "runtime/cpu/device.h"

EQ_DECLARE_ISA(void mi_squared_norm_compute(const MISquaredNormArgs& a, ThreadPool& pool))
EQ_DECLARE_ISA(void mi_squared_norm_grad_compute(const MISquaredNormGradArgs& a, ThreadPool& pool))

namespace eq::EQ_ISA {

static double block_sum(const MISquaredNormArgs& a, std::int64_t sample, std::int64_t block) {
  const Source cond{a.cond, a.cond_type}, uncond{a.uncond, a.uncond_type};
  const std::int64_t begin = sample * a.per_sample + block * kSumBlock;
  const std::int64_t end = sample * a.per_sample + std::min(a.per_sample, (block + 1) * kSumBlock);
  BlockBuffer cs, us;
  double total = 0;
  for_blocks(begin, end, [&](std::int64_t at, std::int64_t n) {
    const float *c = cond.block(at, n, cs), *u = uncond.block(at, n, us);
    vf sum{};
    // Lanes beyond the end are 0 in both.
    for_vectors(n, [&](auto load, auto) {
      const vf d = load(c) - load(u);
      sum += d * d;
    });
    total += static_cast<double>(lane_sum(sum));
  });
  return total;
}

void mi_squared_norm_compute(const MISquaredNormArgs& a, ThreadPool& pool) {
  const std::int64_t blocks = a.blocks();
  pool.parallel_for(a.samples * blocks, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) a.partial[i] = block_sum(a, i / blocks, i % blocks);
  });
  for (std::int64_t b = 0; b < a.samples; ++b) {
    double total = 0;
    for (std::int64_t i = 0; i < blocks; ++i) total += a.partial[b * blocks + i];
    a.mi[b] = static_cast<float>(static_cast<double>(a.weights[b]) * total);
  }
}

static void grad_range(const MISquaredNormGradArgs& a, std::int64_t begin, std::int64_t end, float factor) {
  const Source cond{a.cond, a.cond_type}, uncond{a.uncond, a.uncond_type};
  const Target out{a.out, a.cond_type};
  BlockBuffer cs, us, os;
  for_blocks(begin, end, [&](std::int64_t at, std::int64_t n) {
    const float *c = cond.block(at, n, cs), *u = uncond.block(at, n, us);
    float* to = out.block(at, os);
    for_vectors(n, [&](auto load, auto store) { store(to, factor * (load(c) - load(u))); });
    out.commit(at, n, os);
  });
}

void mi_squared_norm_grad_compute(const MISquaredNormGradArgs& a, ThreadPool& pool) {
  if (a.per_sample == 0) return;
  pool.parallel_for(a.samples * a.per_sample, 1 << 15, [&a](std::int64_t begin, std::int64_t end) {
    while (begin < end) {
      const std::int64_t sample = begin / a.per_sample, stop = std::min(end, (sample + 1) * a.per_sample);
      grad_range(a, begin, stop, 2 * a.dy[sample] * a.weights[sample]);
      begin = stop;
    }
  });
}

}  // namespace eq::EQ_ISA

#if EQ_ISA_BASE
namespace eq {

void mi_squared_norm_launch(Device& device, const OpInfo& info, const MISquaredNormArgs& args) {
  cpu(device).launch(info, [args](ThreadPool& pool) { EQ_DISPATCH(mi_squared_norm_compute)(args, pool); });
}

void mi_squared_norm_grad_launch(Device& device, const OpInfo& info, const MISquaredNormGradArgs& args) {
  cpu(device).launch(info, [args](ThreadPool& pool) { EQ_DISPATCH(mi_squared_norm_grad_compute)(args, pool); });
}

}  // namespace eq
#endif
