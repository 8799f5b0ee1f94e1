#include "op.h"

#include "kernels/isa.h"
#include "runtime/cpu/device.h"

EQ_DECLARE_ISA(void scatter_nd_compute(const ScatterNdArgs& a, ThreadPool& pool))

namespace eq::EQ_ISA {

template <class T, class Sum>
static void scatter(const ScatterNdArgs& a) {
  const auto* updates = static_cast<const T*>(a.updates);
  for (std::int64_t n = 0; n < a.count; ++n) {
    const T* from = a.one_update ? updates : updates + n * a.slice;
    T* to = static_cast<T*>(a.y) + a.index.row(a.indices + n * a.index.depth) * a.slice;
    const std::int64_t step = a.one_update ? 0 : 1;
    if (a.add)
      for (std::int64_t i = 0; i < a.slice; ++i)
        to[i] = static_cast<T>(static_cast<Sum>(to[i]) + static_cast<Sum>(from[i * step]));
    else
      for (std::int64_t i = 0; i < a.slice; ++i) to[i] = from[i * step];
  }
}

void scatter_nd_compute(const ScatterNdArgs& a, ThreadPool&) {
  if (a.type == DType::F32)
    scatter<float, float>(a);
  else if (a.type == DType::BF16)
    scatter<bf16, float>(a);
  else if (a.type == DType::I32)
    scatter<std::int32_t, std::uint32_t>(a);
  else
    scatter<std::uint8_t, std::uint32_t>(a);
}

}  // namespace eq::EQ_ISA

#if EQ_ISA_BASE
namespace eq {

/// Compiled once: what throws must not exist in the form of a newer instruction set.
static void check_indices(const ScatterNdArgs& a) {
  for (std::int64_t n = 0; n < a.count; ++n)
    check_range(a.index.row(a.indices + n * a.index.depth) >= 0, "indices[", n, "] is outside the tensor");
}

void scatter_nd_launch(Device& device, const OpInfo& info, const ScatterNdArgs& args) {
  cpu(device).launch(info, [args](ThreadPool& pool) {
    check_indices(args);
    EQ_DISPATCH(scatter_nd_compute)(args, pool);
  });
}

}  // namespace eq
#endif
