#include "op.h"

#include "kernels/elementwise/operand.h"
#include "runtime/cpu/device.h"

EQ_DECLARE_ISA(void select_compute(const SelectArgs& a, ThreadPool& pool))

namespace eq::EQ_ISA {

template <class T>
static void select_range(const SelectArgs& args, std::int64_t begin, std::int64_t end) {
  Operand<std::int32_t> condition(args.condition, DType::Bool, args.loops, 0);
  Operand<T> a(args.a, args.a_type, args.loops, 1), b(args.b, args.b_type, args.loops, 2);
  alignas(64) T out[kBlock];
  for_blocks(begin, end, [&](std::int64_t at, std::int64_t n) {
    const std::int32_t* c = condition.read(at, n);
    const T* p = a.read(at, n);
    const T* q = b.read(at, n);
    T* y = block_target(args.y, args.y_type, at, out);
    for (std::int64_t i = 0; i < n; ++i) y[i] = c[i] != 0 ? p[i] : q[i];
    finish_block(args.y, args.y_type, at, n, y);
  });
}

void select_compute(const SelectArgs& a, ThreadPool& pool) {
  pool.parallel_for(a.n, 1 << 14, [&](std::int64_t begin, std::int64_t end) {
    if (is_float(a.y_type))
      select_range<float>(a, begin, end);
    else
      select_range<std::int32_t>(a, begin, end);
  });
}

}  // namespace eq::EQ_ISA

#if EQ_ISA_BASE
namespace eq {

void select_launch(Device& device, const OpInfo& info, const SelectArgs& args) {
  cpu(device).launch(info, [args](ThreadPool& pool) { EQ_DISPATCH(select_compute)(args, pool); });
}

}  // namespace eq
#endif
