#include "op.h"

#include "kernels/elementwise/operand.h"
#include "runtime/cpu/device.h"

EQ_DECLARE_ISA(void arg_reduce_compute(const ArgReduceArgs& a, ThreadPool& pool))

namespace eq::EQ_ISA {

static constexpr std::int64_t kArgColumns = 256;

template <class T, bool kLeast>
static void arg_columns(const ArgReduceArgs& a, std::int64_t outer, std::int64_t col, std::int64_t n) {
  alignas(64) T buffer[kArgColumns], best[kArgColumns];
  auto* y = static_cast<std::int32_t*>(a.y) + outer * a.inner + col;
  std::fill_n(y, n, 0);
  for (std::int64_t r = 0; r < a.reduced; ++r) {
    const T* x = load_block(a.x, a.x_type, (outer * a.reduced + r) * a.inner + col, n, buffer);
    if (r == 0) {
      std::copy(x, x + n, best);
      continue;
    }
    for (std::int64_t c = 0; c < n; ++c) {
      const bool better = kLeast ? x[c] < best[c] : x[c] > best[c];
      best[c] = better ? x[c] : best[c];
      y[c] = better ? static_cast<std::int32_t>(r) : y[c];
    }
  }
}

template <class T, bool kLeast>
static void arg_row(const ArgReduceArgs& a, std::int64_t outer) {
  alignas(64) T buffer[kBlock];
  T best{};
  std::int64_t at = 0;
  const std::int64_t first = outer * a.reduced;
  for_blocks(first, first + a.reduced, [&](std::int64_t i, std::int64_t n) {
    const T* x = load_block(a.x, a.x_type, i, n, buffer);
    if (i == first) best = x[0];
    for (std::int64_t k = 0; k < n; ++k)
      if (kLeast ? x[k] < best : x[k] > best) {
        best = x[k];
        at = i + k - first;
      }
  });
  static_cast<std::int32_t*>(a.y)[outer] = static_cast<std::int32_t>(at);
}

template <class T, bool kLeast>
static void arg_all(const ArgReduceArgs& a, ThreadPool& pool) {
  const std::int64_t width = std::min(a.inner, kArgColumns), tiles = a.inner == 0 ? 0 : (a.inner + width - 1) / width;
  const std::int64_t work = std::max<std::int64_t>(1, a.reduced * width);
  pool.parallel_for(a.outer * tiles, std::max<std::int64_t>(1, (1 << 14) / work), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t u = begin; u < end; ++u) {
      const std::int64_t col = u % tiles * width;
      if (a.inner == 1) arg_row<T, kLeast>(a, u);
      else arg_columns<T, kLeast>(a, u / tiles, col, std::min(width, a.inner - col));
    }
  });
}

void arg_reduce_compute(const ArgReduceArgs& a, ThreadPool& pool) {
  if (is_float(a.x_type)) a.least ? arg_all<float, true>(a, pool) : arg_all<float, false>(a, pool);
  else a.least ? arg_all<std::int32_t, true>(a, pool) : arg_all<std::int32_t, false>(a, pool);
}

}  // namespace eq::EQ_ISA

#if EQ_ISA_BASE
namespace eq {

void arg_reduce_launch(Device& device, const OpInfo& info, const ArgReduceArgs& args) {
  cpu(device).launch(info, [args](ThreadPool& pool) { EQ_DISPATCH(arg_reduce_compute)(args, pool); });
}

}  // namespace eq
#endif
