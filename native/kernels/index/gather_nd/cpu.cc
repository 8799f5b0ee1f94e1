#include "op.h"

#include <algorithm>
#include <cstring>

#include "kernels/isa.h"
#include "runtime/cpu/device.h"

EQ_DECLARE_ISA(void gather_nd_compute(const GatherNdArgs& a, ThreadPool& pool))

namespace eq::EQ_ISA {

void gather_nd_compute(const GatherNdArgs& a, ThreadPool& pool) {
  const int depth = a.index.depth;
  const std::int64_t grain = std::max<std::int64_t>(1, (1 << 15) / static_cast<std::int64_t>(a.slice_bytes + 1));
  pool.parallel_for(a.count, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t n = begin; n < end; ++n) {
      const auto row = static_cast<std::size_t>(a.index.row(a.indices + n * depth));
      std::memcpy(static_cast<std::byte*>(a.y) + static_cast<std::size_t>(n) * a.slice_bytes,
                  static_cast<const std::byte*>(a.x) + row * a.slice_bytes, a.slice_bytes);
    }
  });
}

}  // namespace eq::EQ_ISA

#if EQ_ISA_BASE
namespace eq {

/// Compiled once: what throws must not exist in the form of a newer instruction set.
static void check_indices(const GatherNdArgs& a) {
  for (std::int64_t n = 0; n < a.count; ++n)
    check_range(a.index.row(a.indices + n * a.index.depth) >= 0, "indices[", n, "] is outside the tensor");
}

void gather_nd_launch(Device& device, const OpInfo& info, const GatherNdArgs& args) {
  cpu(device).launch(info, [args](ThreadPool& pool) {
    check_indices(args);
    EQ_DISPATCH(gather_nd_compute)(args, pool);
  });
}

}  // namespace eq
#endif
