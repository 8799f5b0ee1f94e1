#include "op.h"

#include "kernels/elementwise/operand.h"
#include "runtime/cpu/device.h"

EQ_DECLARE_ISA(void segment_sum_compute(const SegmentSumArgs& a, ThreadPool& pool))

namespace eq::EQ_ISA {

/// Every thread scans all ids and adds the rows of its own segments: no two write the same sum, and order is kept.
template <class T, class Sum>
static void add_segments(const SegmentSumArgs& a, std::int64_t first, std::int64_t last) {
  alignas(64) T buffer[kBlock];
  for (std::int64_t r = 0; r < a.rows; ++r) {
    const std::int64_t s = a.ids[r];
    if (s < first || s >= last) continue;
    for_blocks(0, a.inner, [&](std::int64_t at, std::int64_t n) {
      const T* x = load_block(a.x, a.x_type, r * a.inner + at, n, buffer);
      T* y = static_cast<T*>(a.y) + s * a.inner + at;
      for (std::int64_t i = 0; i < n; ++i) y[i] = static_cast<T>(static_cast<Sum>(y[i]) + static_cast<Sum>(x[i]));
    });
  }
}

void segment_sum_compute(const SegmentSumArgs& a, ThreadPool& pool) {
  // Small work in one piece: scanning the ids again costs more than it gains.
  const std::int64_t grain = a.rows * a.inner < (1 << 15) ? a.segments : 1;
  pool.parallel_for(a.segments, grain, [&a](std::int64_t begin, std::int64_t end) {
    if (a.y_type == DType::F32)
      add_segments<float, float>(a, begin, end);
    else
      add_segments<std::int32_t, std::uint32_t>(a, begin, end);
  });
}

}  // namespace eq::EQ_ISA

#if EQ_ISA_BASE
namespace eq {

void segment_sum_launch(Device& device, const OpInfo& info, const SegmentSumArgs& args) {
  cpu(device).launch(info, [args](ThreadPool& pool) { EQ_DISPATCH(segment_sum_compute)(args, pool); });
}

}  // namespace eq
#endif
