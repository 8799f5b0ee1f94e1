#include "op.h"

#include <algorithm>
#include <vector>

#include "kernels/isa.h"
#include "runtime/cpu/device.h"

EQ_DECLARE_ISA(void multinomial_compute(const MultinomialArgs& a, ThreadPool& pool))

namespace eq::EQ_ISA {

void multinomial_compute(const MultinomialArgs& a, ThreadPool& pool) {
  pool.parallel_for(a.rows, 1, [&a](std::int64_t begin, std::int64_t end) {
    std::vector<double> cumulative(static_cast<std::size_t>(a.classes));
    for (std::int64_t r = begin; r < end; ++r) {
      double sum = 0;
      for (std::int64_t c = 0; c < a.classes; ++c)
        cumulative[static_cast<std::size_t>(c)] = sum += static_cast<double>(a.probabilities[r * a.classes + c]);
      for (std::int64_t s = 0; s < a.samples; ++s) {
        const double target = static_cast<double>(a.uniforms[r * a.samples + s]) * sum;
        const auto at = std::upper_bound(cumulative.begin(), cumulative.end(), target) - cumulative.begin();
        a.y[r * a.samples + s] = static_cast<std::int32_t>(std::min<std::int64_t>(at, a.classes - 1));
      }
    }
  });
}

}  // namespace eq::EQ_ISA

#if EQ_ISA_BASE
namespace eq {

void multinomial_launch(Device& device, const OpInfo& info, const MultinomialArgs& args) {
  cpu(device).launch(info, [args](ThreadPool& pool) { EQ_DISPATCH(multinomial_compute)(args, pool); });
}

}  // namespace eq
#endif
