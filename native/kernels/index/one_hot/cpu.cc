#include "op.h"

#include "kernels/convert.h"
#include "runtime/cpu/device.h"

EQ_DECLARE_ISA(void one_hot_compute(const OneHotArgs& a, ThreadPool& pool))

namespace eq::EQ_ISA {

template <class T>
static void set_hot(const OneHotArgs& a, T on) {
  for (std::int64_t n = 0; n < a.count; ++n)
    if (a.indices[n] >= 0 && a.indices[n] < a.depth) static_cast<T*>(a.y)[n * a.depth + a.indices[n]] = on;
}

void one_hot_compute(const OneHotArgs& a, ThreadPool&) {
  if (a.type == DType::F32)
    set_hot<float>(a, a.on);
  else if (a.type == DType::BF16)
    set_hot<bf16>(a, bf16(a.on));
  else if (a.type == DType::I32)
    set_hot<std::int32_t>(a, to_int32(static_cast<double>(a.on)));
  else
    set_hot<std::uint8_t>(a, a.on != 0);
}

}  // namespace eq::EQ_ISA

#if EQ_ISA_BASE
namespace eq {

void one_hot_launch(Device& device, const OpInfo& info, const OneHotArgs& args) {
  cpu(device).launch(info, [args](ThreadPool& pool) { EQ_DISPATCH(one_hot_compute)(args, pool); });
}

}  // namespace eq
#endif
