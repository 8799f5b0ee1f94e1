#include "op.h"

#include "kernels/elementwise/operand.h"
#include "runtime/cpu/device.h"

EQ_DECLARE_ISA(void arg_reduce_compute(const ArgReduceArgs& a, ThreadPool& pool))

namespace eq::EQ_ISA {

static constexpr std::int64_t kArgColumns = 256;

template <class T, bool kLeast>
static bool beats(T a, T b) {
  return kLeast ? a < b : a > b;
}

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
      const bool better = beats<T, kLeast>(x[c], best[c]);
      best[c] = better ? x[c] : best[c];
      y[c] = better ? static_cast<std::int32_t>(r) : y[c];
    }
  }
}

/// The best of x and `start`, several elements at a time; NaN beats nothing.
template <class T, bool kLeast>
static T best_of(const T* x, std::int64_t n, T start) {
  T lanes[4 * kLanes];
  std::fill_n(lanes, 4 * kLanes, start);
  std::int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes)
    for (int l = 0; l < 4 * kLanes; ++l) lanes[l] = beats<T, kLeast>(x[i + l], lanes[l]) ? x[i + l] : lanes[l];
  for (; i < n; ++i) lanes[0] = beats<T, kLeast>(x[i], lanes[0]) ? x[i] : lanes[0];
  for (const T lane : lanes) start = beats<T, kLeast>(lane, start) ? lane : start;
  return start;
}

/// Looks for the place of a new best value only in the blocks that hold one.
template <class T, bool kLeast>
static void arg_row(const ArgReduceArgs& a, std::int64_t outer) {
  alignas(64) T buffer[kBlock];
  T best{};
  std::int64_t at = 0;
  const std::int64_t first = outer * a.reduced;
  for_blocks(first, first + a.reduced, [&](std::int64_t i, std::int64_t n) {
    const T* x = load_block(a.x, a.x_type, i, n, buffer);
    if (i == first) best = x[0];
    const T better = best_of<T, kLeast>(x, n, best);
    if (!beats<T, kLeast>(better, best)) return;
    best = better;
    at = i - first + (std::find(x, x + n, better) - x);
  });
  static_cast<std::int32_t*>(a.y)[outer] = static_cast<std::int32_t>(at);
}

template <class T, bool kLeast>
static void arg_all(const ArgReduceArgs& a, ThreadPool& pool) {
  const std::int64_t width = std::min(a.inner, kArgColumns), tiles = a.inner == 0 ? 0 : (a.inner + width - 1) / width;
  const std::int64_t work = std::max<std::int64_t>(1, a.reduced * width);
  pool.parallel_for(a.outer * tiles, std::max<std::int64_t>(1, (1 << 14) / work),
                    [&](std::int64_t begin, std::int64_t end) {
                      for (std::int64_t u = begin; u < end; ++u) {
                        const std::int64_t col = u % tiles * width;
                        if (a.inner == 1)
                          arg_row<T, kLeast>(a, u);
                        else
                          arg_columns<T, kLeast>(a, u / tiles, col, std::min(width, a.inner - col));
                      }
                    });
}

void arg_reduce_compute(const ArgReduceArgs& a, ThreadPool& pool) {
  if (is_float(a.x_type))
    a.least ? arg_all<float, true>(a, pool) : arg_all<float, false>(a, pool);
  else
    a.least ? arg_all<std::int32_t, true>(a, pool) : arg_all<std::int32_t, false>(a, pool);
}

}  // namespace eq::EQ_ISA

#if EQ_ISA_BASE
namespace eq {

void arg_reduce_launch(Device& device, const OpInfo& info, const ArgReduceArgs& args) {
  cpu(device).launch(info, [args](ThreadPool& pool) { EQ_DISPATCH(arg_reduce_compute)(args, pool); });
}

}  // namespace eq
#endif
