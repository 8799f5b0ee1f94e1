#include "op.h"

#include <cmath>
#include <limits>
#include <vector>

#include "kernels/convert.h"
#include "kernels/elementwise/operand.h"
#include "runtime/cpu/device.h"

EQ_DECLARE_ISA(void reduce_compute(const ReduceArgs& a, ThreadPool& pool))

namespace eq::EQ_ISA {

namespace {

/// Each combines two numbers; vectors of doubles and single doubles alike.
struct Sum {
  static constexpr double kIdentity = 0;
  template <class V>
  static V combine(V a, V b) {
    return a + b;
  }
};
struct Prod {
  static constexpr double kIdentity = 1;
  template <class V>
  static V combine(V a, V b) {
    return a * b;
  }
};
/// A NaN on either side stays: a > b is false for it, and a != a finds it.
struct Max {
  static constexpr double kIdentity = -std::numeric_limits<double>::infinity();
  template <class V>
  static V combine(V a, V b) {
    return a >= b ? a : a != a ? a : b;
  }
};
struct Min {
  static constexpr double kIdentity = std::numeric_limits<double>::infinity();
  template <class V>
  static V combine(V a, V b) {
    return a <= b ? a : a != a ? a : b;
  }
};

template <class T>
using HalfOf = std::conditional_t<std::is_same_v<T, float>, vf_half, vi_half>;

/// One block of consecutive elements.
template <class R, class T>
double reduce_block(const T* x, std::int64_t n) {
  constexpr int kParts = 4;  // independent chains hide the latency of the additions
  vd part[kParts];
  for (vd& p : part) p = vd{} + R::kIdentity;
  std::int64_t i = 0;
  for (; i + kParts * kDoubleLanes <= n; i += kParts * kDoubleLanes)
    for (int k = 0; k < kParts; ++k)
      part[k] = R::combine(part[k], __builtin_convertvector(load<HalfOf<T>>(x + i + k * kDoubleLanes), vd));
  const vd all = R::combine(R::combine(part[0], part[1]), R::combine(part[2], part[3]));
  double result = R::kIdentity;
  for (int k = 0; k < kDoubleLanes; ++k) result = R::combine(result, all[k]);
  for (; i < n; ++i) result = R::combine(result, static_cast<double>(x[i]));
  return result;
}

/// Consecutive elements [at, at + n) of x.
template <class R, class T>
double reduce_run(const ReduceArgs& a, std::int64_t at, std::int64_t n) {
  alignas(64) T buffer[kBlock];
  double result = R::kIdentity;
  for_blocks(at, at + n, [&](std::int64_t i, std::int64_t m) {
    result = R::combine(result, reduce_block<R>(load_block(a.x, a.x_type, i, m, buffer), m));
  });
  return result;
}

/// Rows [begin, end) of columns [col, col + n) of slice `outer`, n <= kColumns, into acc.
constexpr std::int64_t kColumns = 256;
template <class R, class T>
void reduce_columns(const ReduceArgs& a, std::int64_t outer, std::int64_t begin, std::int64_t end, std::int64_t col,
                    std::int64_t n, double* acc) {
  alignas(64) T buffer[kColumns];
  for (std::int64_t c = 0; c < n; ++c) acc[c] = R::kIdentity;
  for (std::int64_t r = begin; r < end; ++r) {
    const T* x = load_block(a.x, a.x_type, (outer * a.reduced + r) * a.inner + col, n, buffer);
    for (std::int64_t c = 0; c < n; ++c) acc[c] = R::combine(acc[c], static_cast<double>(x[c]));
  }
}

void write(const ReduceArgs& a, std::int64_t at, double value) {
  if (a.op == ReduceOp::Mean) value /= static_cast<double>(a.reduced);
  if (a.y_type == DType::F32)
    static_cast<float*>(a.y)[at] = static_cast<float>(value);
  else if (a.y_type == DType::I32)
    static_cast<std::int32_t*>(a.y)[at] = to_int32(value);
  else
    static_cast<std::uint8_t*>(a.y)[at] = static_cast<std::uint8_t>(value > 0);
}

/// Every result has its reduced dimension cut into the same parts, whatever the threads; partial results are
/// combined in order.
template <class R, class T>
void reduce_all(const ReduceArgs& a, ThreadPool& pool) {
  const bool rows = a.inner == 1;
  const std::int64_t width = rows ? 1 : std::min(a.inner, kColumns);
  const std::int64_t length = rows ? 1 << 15 : std::max<std::int64_t>(16, (1 << 15) / width);
  const std::int64_t parts = std::max<std::int64_t>(1, (a.reduced + length - 1) / length);
  const std::int64_t tiles = (a.inner + width - 1) / width;
  std::vector<double> partial(parts == 1 ? 0 : static_cast<std::size_t>(a.outer * parts * a.inner));
  const std::int64_t work = std::max<std::int64_t>(1, std::min(a.reduced, length) * width);
  // Units are ordered outer, part, tile, so that one thread reads consecutive memory.
  pool.parallel_for(a.outer * parts * tiles, std::max<std::int64_t>(1, (1 << 15) / work),
                    [&](std::int64_t begin, std::int64_t end) {
                      alignas(64) double acc[kColumns];
                      for (std::int64_t u = begin; u < end; ++u) {
                        const std::int64_t tile = u % tiles, part = u / tiles % parts, outer = u / tiles / parts;
                        const std::int64_t r0 = part * length, r1 = std::min(a.reduced, r0 + length);
                        const std::int64_t col = tile * width, n = std::min(width, a.inner - col);
                        if (rows)
                          acc[0] = reduce_run<R, T>(a, outer * a.reduced + r0, r1 - r0);
                        else
                          reduce_columns<R, T>(a, outer, r0, r1, col, n, acc);
                        for (std::int64_t c = 0; c < n; ++c) {
                          if (parts == 1)
                            write(a, outer * a.inner + col + c, acc[c]);
                          else
                            partial[static_cast<std::size_t>((outer * parts + part) * a.inner + col + c)] = acc[c];
                        }
                      }
                    });
  if (parts == 1) return;
  for (std::int64_t o = 0; o < a.outer; ++o) {
    for (std::int64_t i = 0; i < a.inner; ++i) {
      double value = R::kIdentity;
      for (std::int64_t p = 0; p < parts; ++p)
        value = R::combine(value, partial[static_cast<std::size_t>((o * parts + p) * a.inner + i)]);
      write(a, o * a.inner + i, value);
    }
  }
}

template <class T>
void reduce_type(const ReduceArgs& a, ThreadPool& pool) {
  switch (a.op) {
    case ReduceOp::Sum:
    case ReduceOp::Mean:
      return reduce_all<Sum, T>(a, pool);
    case ReduceOp::Prod:
      return reduce_all<Prod, T>(a, pool);
    case ReduceOp::Max:
    case ReduceOp::Any:
      return reduce_all<Max, T>(a, pool);
    default:
      return reduce_all<Min, T>(a, pool);
  }
}

}  // namespace

void reduce_compute(const ReduceArgs& a, ThreadPool& pool) {
  if (is_float(a.x_type))
    reduce_type<float>(a, pool);
  else
    reduce_type<std::int32_t>(a, pool);
}

}  // namespace eq::EQ_ISA

#if EQ_ISA_BASE
namespace eq {

void reduce_launch(Device& device, const OpInfo& info, const ReduceArgs& args) {
  cpu(device).launch(info, [args](ThreadPool& pool) { EQ_DISPATCH(reduce_compute)(args, pool); });
}

}  // namespace eq
#endif
