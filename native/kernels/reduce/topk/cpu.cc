#include "op.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "kernels/isa.h"
#include "runtime/cpu/device.h"

EQ_DECLARE_ISA(void topk_compute(const TopKArgs& a, ThreadPool& pool))

namespace eq::EQ_ISA {

template <class T>
static void topk_rows(const TopKArgs& a, std::int64_t begin, std::int64_t end) {
  std::vector<std::int32_t> order(static_cast<std::size_t>(a.columns));
  for (std::int64_t r = begin; r < end; ++r) {
    const T* x = static_cast<const T*>(a.x) + r * a.columns;
    std::iota(order.begin(), order.end(), 0);
    const auto before = [x](std::int32_t i, std::int32_t j) {
      const float p = static_cast<float>(x[i]), q = static_cast<float>(x[j]);
      if constexpr (std::is_same_v<T, std::int32_t>) {
        if (x[i] != x[j]) return x[i] > x[j];
      } else {
        if (p > q || q > p) return p > q;
        if ((p != p) != (q != q)) return q != q;
      }
      return i < j;
    };
    std::partial_sort(order.begin(), order.begin() + a.k, order.end(), before);
    for (std::int64_t i = 0; i < a.k; ++i) {
      const std::int32_t at = order[static_cast<std::size_t>(i)];
      static_cast<T*>(a.values)[r * a.k + i] = x[at];
      a.indices[r * a.k + i] = at;
    }
  }
}

void topk_compute(const TopKArgs& a, ThreadPool& pool) {
  const std::int64_t grain = std::max<std::int64_t>(1, (1 << 12) / std::max<std::int64_t>(1, a.columns));
  pool.parallel_for(a.rows, grain, [&a](std::int64_t begin, std::int64_t end) {
    if (a.type == DType::F32)
      topk_rows<float>(a, begin, end);
    else if (a.type == DType::BF16)
      topk_rows<bf16>(a, begin, end);
    else if (a.type == DType::I32)
      topk_rows<std::int32_t>(a, begin, end);
    else
      topk_rows<std::uint8_t>(a, begin, end);
  });
}

}  // namespace eq::EQ_ISA

#if EQ_ISA_BASE
namespace eq {

void topk_launch(Device& device, const OpInfo& info, const TopKArgs& args) {
  cpu(device).launch(info, [args](ThreadPool& pool) { EQ_DISPATCH(topk_compute)(args, pool); });
}

}  // namespace eq
#endif
