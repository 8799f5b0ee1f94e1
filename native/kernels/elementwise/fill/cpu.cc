#include "op.h"

#include "kernels/convert.h"
#include "runtime/cpu/device.h"

EQ_DECLARE_ISA(void range_compute(const RangeArgs& a, ThreadPool& pool))

namespace eq::EQ_ISA {

template <class T, class Convert>
static void range_part(const RangeArgs& a, std::int64_t begin, std::int64_t end, Convert convert) {
  auto* y = static_cast<T*>(a.y);
  if (a.step == 0) {
    const T value = convert(a.start);
    for (std::int64_t i = begin; i < end; ++i) y[i] = value;
  } else {
    for (std::int64_t i = begin; i < end; ++i) y[i] = convert(a.start + static_cast<double>(i) * a.step);
  }
}

void range_compute(const RangeArgs& a, ThreadPool& pool) {
  pool.parallel_for(a.n, 1 << 15, [&a](std::int64_t begin, std::int64_t end) {
    if (a.type == DType::F32)
      range_part<float>(a, begin, end, [](double v) { return static_cast<float>(v); });
    else if (a.type == DType::BF16)
      range_part<bf16>(a, begin, end, [](double v) { return bf16(static_cast<float>(v)); });
    else if (a.type == DType::I32)
      range_part<std::int32_t>(a, begin, end, to_int32);
    else
      range_part<std::uint8_t>(a, begin, end, [](double v) { return static_cast<std::uint8_t>(v != 0); });
  });
}

}  // namespace eq::EQ_ISA

#if EQ_ISA_BASE
namespace eq {

void range_launch(Device& device, const OpInfo& info, const RangeArgs& args) {
  cpu(device).launch(info, [args](ThreadPool& pool) { EQ_DISPATCH(range_compute)(args, pool); });
}

}  // namespace eq
#endif
