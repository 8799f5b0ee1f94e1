#include "op.h"

#include "kernels/isa.h"
#include "runtime/cpu/device.h"

EQ_DECLARE_ISA(void bincount_compute(const BincountArgs& a, ThreadPool& pool))

namespace eq::EQ_ISA {

template <class T>
static void count(const BincountArgs& a) {
  for (std::int64_t i = 0; i < a.rows * a.columns; ++i) {
    const std::int64_t value = a.x[i];
    if (value >= a.bins) continue;
    T& bin = static_cast<T*>(a.y)[i / a.columns * a.bins + value];
    if (a.binary)
      bin = 1;
    else
      bin += a.weights ? static_cast<T>(a.weights[i]) : T{1};
  }
}

void bincount_compute(const BincountArgs& a, ThreadPool&) {
  if (a.weights)
    count<float>(a);
  else
    count<std::int32_t>(a);
}

}  // namespace eq::EQ_ISA

#if EQ_ISA_BASE
namespace eq {

/// Compiled once: what throws must not exist in the form of a newer instruction set.
static void check_indices(const BincountArgs& a) {
  for (std::int64_t i = 0; i < a.rows * a.columns; ++i)
    check_range(a.x[i] >= 0, "Input x must be non-negative, x[", i, "] is ", a.x[i]);
}

void bincount_launch(Device& device, const OpInfo& info, const BincountArgs& args) {
  cpu(device).launch(info, [args](ThreadPool& pool) {
    check_indices(args);
    EQ_DISPATCH(bincount_compute)(args, pool);
  });
}

}  // namespace eq
#endif
