#include "op.h"

#include "kernels/elementwise/operand.h"
#include "kernels/math.h"
#include "runtime/cpu/device.h"

EQ_DECLARE_ISA(void softmax_compute(const SoftmaxArgs& a, ThreadPool& pool))

namespace eq::EQ_ISA {

static void softmax_row(const SoftmaxArgs& a, std::int64_t row) {
  const std::int64_t n = a.columns;
  float* y = a.y + row * n;
  // Through y: bf16 widens there, f32 is read in place.
  const float* x = load_block(a.x, a.x_type, row * n, n, y);
  float max = -__builtin_inff();
  vf lanes = splat(max);
  std::int64_t done = 0;
  for (; done + kLanes <= n; done += kLanes) lanes = vmax(load(x + done), lanes);
  max = hmax(lanes);
  for (; done < n; ++done) max = max < x[done] ? x[done] : max;
  map_vectors(x, y, n, [max](vf v) { return vexp(v - max); });
  double sum = 0;
  for (std::int64_t i = 0; i < n; i += kBlock) {
    const std::int64_t stop = std::min(n, i + kBlock);
    vf part{};
    std::int64_t k = i;
    for (; k + kLanes <= stop; k += kLanes) part += load(y + k);
    float rest = hsum(part);
    for (; k < stop; ++k) rest += y[k];
    sum += static_cast<double>(rest);
  }
  const float scale = static_cast<float>(1 / sum);
  for (std::int64_t i = 0; i < n; ++i) y[i] *= scale;
}

void softmax_compute(const SoftmaxArgs& a, ThreadPool& pool) {
  if (a.columns == 0) return;
  const std::int64_t grain = std::max<std::int64_t>(1, (1 << 13) / a.columns);
  pool.parallel_for(a.rows, grain, [&a](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) softmax_row(a, r);
  });
}

}  // namespace eq::EQ_ISA

#if EQ_ISA_BASE
namespace eq {

void softmax_launch(Device& device, const OpInfo& info, const SoftmaxArgs& args) {
  cpu(device).launch(info, [args](ThreadPool& pool) { EQ_DISPATCH(softmax_compute)(args, pool); });
}

}  // namespace eq
#endif
