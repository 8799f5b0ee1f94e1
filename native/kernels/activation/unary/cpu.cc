#include "kernels/activation/functions.h"
#include "kernels/blocks.h"
#include "op.h"
#include "runtime/cpu/device.h"

EQ_DECLARE_ISA(void activation_compute(const ActivationArgs& a, ThreadPool& pool))

namespace eq::EQ_ISA {

/// `coarse` may replace f where arguments and results are bf16.
template <class F, class G>
static void map_range(const ActivationArgs& a, std::int64_t begin, std::int64_t end, F f, G coarse) {
  if (a.x_type == DType::BF16 && a.out_type == DType::BF16) {
    const bf16* from = static_cast<const bf16*>(a.x) + begin;
    bf16* to = static_cast<bf16*>(a.out) + begin;
    for_even_odd(end - begin, [&](auto load, auto store) {
      const EvenOdd x = load(from);
      store(to, {coarse(x.even), coarse(x.odd)});
    });
    return;
  }
  const Source x{a.x, a.x_type};
  const Target out{a.out, a.out_type};
  BlockBuffer xs, ys;
  for_blocks(begin, end, [&](std::int64_t at, std::int64_t n) {
    const float* from = x.block(at, n, xs);
    float* to = out.block(at, ys);
    for_vectors(n, [&](auto load, auto store) { store(to, f(load(from))); });
    out.commit(at, n, ys);
  });
}

template <class F>
static void grad_range(const ActivationArgs& a, std::int64_t begin, std::int64_t end, F derivative) {
  const Source x{a.x, a.x_type}, dy{a.dy, a.dy_type};
  const Target out{a.out, a.out_type};
  BlockBuffer xs, ds, ys;
  for_blocks(begin, end, [&](std::int64_t at, std::int64_t n) {
    const float* from = x.block(at, n, xs);
    const float* up = dy.block(at, n, ds);
    float* to = out.block(at, ys);
    for_vectors(n, [&](auto load, auto store) { store(to, load(up) * derivative(load(from))); });
    out.commit(at, n, ys);
  });
}

void activation_compute(const ActivationArgs& a, ThreadPool& pool) {
  // 16 K elements take about 10 us: above the cost of waking a thread.
  pool.parallel_for(a.n, 1 << 14, [&a](std::int64_t begin, std::int64_t end) {
    const bool grad = a.dy != nullptr;
    switch (a.kind) {
      case Activation::Silu:
        if (grad)
          grad_range(a, begin, end, [](vf x) { return swish_derivative(x, 1.0f); });
        else
          map_range(a, begin, end, [](vf x) { return swish(x, 1.0f); }, [](vf x) { return swish_coarse(x, 1.0f); });
        break;
      case Activation::QuickGelu:
        if (grad)
          grad_range(a, begin, end, [](vf x) { return swish_derivative(x, kQuickGelu); });
        else
          map_range(
              a, begin, end, [](vf x) { return swish(x, kQuickGelu); },
              [](vf x) { return swish_coarse(x, kQuickGelu); });
        break;
      case Activation::Gelu:
        if (grad)
          grad_range(a, begin, end, [](vf x) { return gelu_derivative(x); });
        else
          map_range(a, begin, end, [](vf x) { return gelu(x); }, [](vf x) { return gelu_coarse(x); });
        break;
    }
  });
}

}  // namespace eq::EQ_ISA

#if EQ_ISA_BASE
namespace eq {

void activation_launch(Device& device, const OpInfo& info, const ActivationArgs& args) {
  cpu(device).launch(info, [args](ThreadPool& pool) { EQ_DISPATCH(activation_compute)(args, pool); });
}

}  // namespace eq
#endif
