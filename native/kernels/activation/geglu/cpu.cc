#include "kernels/activation/functions.h"
#include "kernels/blocks.h"
#include "op.h"
#include "runtime/cpu/device.h"

EQ_DECLARE_ISA(void geglu_compute(const GegluArgs& a, ThreadPool& pool))

namespace eq::EQ_ISA {

static void forward_row(const GegluArgs& a, std::int64_t row) {
  if (a.x_type == DType::BF16 && a.out_type == DType::BF16) {
    const bf16* value = static_cast<const bf16*>(a.x) + row * 2 * a.channels;
    const bf16* gate = value + a.channels;
    bf16* to = static_cast<bf16*>(a.out) + row * a.channels;
    for_even_odd(a.channels, [&](auto load, auto store) {
      const EvenOdd v = load(value), g = load(gate);
      store(to, {v.even * gelu_coarse(g.even), v.odd * gelu_coarse(g.odd)});
    });
    return;
  }
  const Source x{a.x, a.x_type};
  const Target y{a.out, a.out_type};
  BlockBuffer values, gates, ys;
  for_blocks(0, a.channels, [&](std::int64_t at, std::int64_t n) {
    const float* value = x.block(row * 2 * a.channels + at, n, values);
    const float* gate = x.block((row * 2 + 1) * a.channels + at, n, gates);
    float* to = y.block(row * a.channels + at, ys);
    for_vectors(n, [&](auto load, auto store) { store(to, load(value) * gelu(load(gate))); });
    y.commit(row * a.channels + at, n, ys);
  });
}

static void backward_row(const GegluArgs& a, std::int64_t row) {
  const Source x{a.x, a.x_type}, dy{a.dy, a.dy_type};
  const Target dx{a.out, a.out_type};
  BlockBuffer values, gates, ups, dvalues, dgates;
  for_blocks(0, a.channels, [&](std::int64_t at, std::int64_t n) {
    const std::int64_t value_at = row * 2 * a.channels + at, gate_at = value_at + a.channels;
    const float* value = x.block(value_at, n, values);
    const float* gate = x.block(gate_at, n, gates);
    const float* up = dy.block(row * a.channels + at, n, ups);
    float* dvalue = dx.block(value_at, dvalues);
    float* dgate = dx.block(gate_at, dgates);
    for_vectors(n, [&](auto load, auto store) {
      const vf g = load(gate), d = load(up), cdf = normal_cdf(g);
      store(dvalue, d * g * cdf);
      store(dgate, d * load(value) * (cdf + g * normal_density(g)));
    });
    dx.commit(value_at, n, dvalues);
    dx.commit(gate_at, n, dgates);
  });
}

void geglu_compute(const GegluArgs& a, ThreadPool& pool) {
  if (a.channels == 0) return;
  const std::int64_t grain = std::max<std::int64_t>(1, (1 << 13) / a.channels);
  pool.parallel_for(a.rows, grain, [&a](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) a.dy != nullptr ? backward_row(a, row) : forward_row(a, row);
  });
}

}  // namespace eq::EQ_ISA

#if EQ_ISA_BASE
namespace eq {

void geglu_launch(Device& device, const OpInfo& info, const GegluArgs& args) {
  cpu(device).launch(info, [args](ThreadPool& pool) { EQ_DISPATCH(geglu_compute)(args, pool); });
}

}  // namespace eq
#endif
