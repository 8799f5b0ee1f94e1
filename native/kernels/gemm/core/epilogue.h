// The epilogue of the matrix kernels on rows of f32 sums (see epilogue_args.h).
#pragma once

#include "epilogue_args.h"
#include "geometry.h"
#include "kernels/math.h"

namespace eq::EQ_ISA {

/// Column vectors widened to f32 and padded to whole vectors; null where absent.
struct Columns {
  const float *scale = nullptr, *bias = nullptr, *prelu = nullptr;
};

/// Floats that Columns needs for n columns.
constexpr std::int64_t columns_size(std::int64_t n) { return 3 * round_up(n, kCols); }

static inline const float* widen_columns(const ColumnVector& v, std::int64_t n, float* to) {
  if (!v.data) return nullptr;
  const std::int64_t padded = round_up(n, kCols);
  for (std::int64_t j = 0; j < padded; ++j) {
    const std::int64_t i = v.scalar ? 0 : j;
    to[j] = j >= n ? 0.0f
            : v.dtype == DType::BF16 ? static_cast<float>(static_cast<const bf16*>(v.data)[i])
                                     : static_cast<const float*>(v.data)[i];
  }
  return to;
}

static inline Columns make_columns(const EpilogueArgs& e, std::int64_t n, float* room) {
  const std::int64_t padded = round_up(n, kCols);
  return {widen_columns(e.column_scale, n, room), widen_columns(e.bias, n, room + padded),
          widen_columns(e.prelu, n, room + 2 * padded)};
}

static inline vf activate(vf x, FusedActivation activation, float leak, vf prelu) {
  switch (activation) {
    case FusedActivation::None:
      return x;
    // Written so that NaN stays NaN.
    case FusedActivation::Relu:
      return x < 0.0f ? vf{} : x;
    case FusedActivation::Relu6:
      return x < 0.0f ? vf{} : x > 6.0f ? splat(6.0f) : x;
    case FusedActivation::Elu:
      return x < 0.0f ? vexp(x) - 1.0f : x;
    case FusedActivation::LeakyRelu:
      return x < 0.0f ? x * leak : x;
    case FusedActivation::Prelu:
      return x < 0.0f ? x * prelu : x;
    case FusedActivation::Sigmoid:
      return vsigmoid(x);
    case FusedActivation::Silu:
      return x * vsigmoid(x);
    case FusedActivation::Gelu:
      return 0.5f * x * (1.0f + verf(x * 0.70710678118654752f));
    case FusedActivation::QuickGelu:
      return x * vsigmoid(1.702f * x);
  }
  return x;
}

/// Finishes n sums at `sums` (readable up to the next whole vector), columns col.. of a row, into c[offset..].
template <class C>
static void finish_row(const EpilogueArgs& e, const Columns& columns, const float* sums, std::int64_t col,
                       std::int64_t n, C* c, std::int64_t offset) {
  for (std::int64_t j = 0; j < n; j += kLanes) {
    const int left = static_cast<int>(n - j < kLanes ? n - j : kLanes);
    vf v = load(sums + j) * e.scale;
    if (columns.scale) v *= load(columns.scale + col + j);
    if (columns.bias) v += load(columns.bias + col + j);
    if (e.addend) {
      const auto* wide = static_cast<const float*>(e.addend) + offset + j;
      const auto* narrow = static_cast<const bf16*>(e.addend) + offset + j;
      const bool full = left == kLanes;
      if (e.addend_dtype == DType::BF16) v += e.beta * (full ? load(narrow) : load_part(narrow, left));
      else v += e.beta * (full ? load(wide) : load_part(wide, left));
    }
    v = activate(v, e.activation, e.leak, columns.prelu ? load(columns.prelu + col + j) : vf{});
    if (left == kLanes) store(c + offset + j, v);
    else store_part(c + offset + j, v, left);
  }
}

}  // namespace eq::EQ_ISA
