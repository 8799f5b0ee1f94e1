#include "op.h"

#include <algorithm>
#include <cstring>

#include "kernels/isa.h"
#include "runtime/cpu/device.h"

EQ_DECLARE_ISA(void gather_compute(const GatherArgs& a, ThreadPool& pool))

namespace eq::EQ_ISA {

void gather_compute(const GatherArgs& a, ThreadPool& pool) {
  if (a.outer == 0 || a.inner == 0) return;
  const std::size_t bytes = static_cast<std::size_t>(a.inner) * a.element_size;
  const std::int64_t grain = std::max<std::int64_t>(1, (1 << 15) / static_cast<std::int64_t>(bytes));
  pool.parallel_for(a.batch * a.outer * a.count, grain, [&](std::int64_t begin, std::int64_t end) {
    const auto* x = static_cast<const std::byte*>(a.x);
    auto* y = static_cast<std::byte*>(a.y);
    for (std::int64_t u = begin; u < end; ++u) {
      const std::int64_t n = u % a.count, bo = u / a.count, b = bo / a.outer;
      const std::int64_t row = bo * a.dim + a.indices[b * a.count + n];
      const auto* from = x + static_cast<std::size_t>(row) * bytes;
      auto* to = y + static_cast<std::size_t>(u) * bytes;
      if (bytes == 4)
        std::memcpy(to, from, 4);
      else
        std::memcpy(to, from, bytes);
    }
  });
}

}  // namespace eq::EQ_ISA

#if EQ_ISA_BASE
namespace eq {

/// Compiled once: what throws must not exist in the form of a newer instruction set.
static void check_indices(const GatherArgs& a) {
  if (a.outer == 0 || a.inner == 0) return;
  for (std::int64_t i = 0; i < a.batch * a.count; ++i)
    check_range(a.indices[i] >= 0 && a.indices[i] < a.dim, "index ", a.indices[i], " is outside 0..", a.dim - 1);
}

void gather_launch(Device& device, const OpInfo& info, const GatherArgs& args) {
  cpu(device).launch(info, [args](ThreadPool& pool) {
    check_indices(args);
    EQ_DISPATCH(gather_compute)(args, pool);
  });
}

}  // namespace eq
#endif
