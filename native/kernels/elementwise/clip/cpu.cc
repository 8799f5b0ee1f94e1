#include "kernels/isa.h"
#include "op.h"
#include "runtime/cpu/device.h"

EQ_DECLARE_ISA(void clip_compute(const ClipArgs& a, ThreadPool& pool))

namespace eq::EQ_ISA {

template <class T>
static void clip_range(const ClipArgs& a, std::int64_t begin, std::int64_t end) {
  const auto* x = static_cast<const T*>(a.x);
  auto* y = static_cast<T*>(a.y);
  for (std::int64_t i = begin; i < end; ++i) {
    const float v = static_cast<float>(x[i]);
    // Comparisons with NaN are false, so NaN falls through unchanged.
    y[i] = static_cast<T>(v < a.low ? a.low : v > a.high ? a.high : v);
  }
}

void clip_compute(const ClipArgs& a, ThreadPool& pool) {
  // 32 K elements a piece: well above the cost of waking a thread.
  pool.parallel_for(a.n, 1 << 15, [&a](std::int64_t begin, std::int64_t end) {
    if (a.dtype == DType::F32)
      clip_range<float>(a, begin, end);
    else if (a.dtype == DType::BF16)
      clip_range<bf16>(a, begin, end);
    else
      clip_range<std::int32_t>(a, begin, end);
  });
}

}  // namespace eq::EQ_ISA

#if EQ_ISA_BASE
namespace eq {

void clip_launch(Device& device, const OpInfo& info, const ClipArgs& args) {
  cpu(device).launch(info, [args](ThreadPool& pool) { EQ_DISPATCH(clip_compute)(args, pool); });
}

}  // namespace eq
#endif
