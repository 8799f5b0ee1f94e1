// The epilogue of the matrix kernels on rows of f32 sums (see epilogue_args.h).
#pragma once

#include "epilogue_args.h"
#include "kernels/math.h"
#include "parts.h"

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

template <FusedActivation kActivation>
EQ_INLINE vf activate(vf x, float leak, vf prelu) {
  // Written so that NaN stays NaN.
  switch (kActivation) {
    case FusedActivation::None:
      return x;
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

/// Finished sums of a tile: rows of `stride` floats, columns col .. col + n of the output.
struct SumTile {
  const float* sums;
  std::int64_t stride, rows, col, n;
};

template <FusedActivation kActivation, class C, class RowOffset>
static void finish_as(const EpilogueArgs& e, const Columns& columns, const SumTile& t, C* c, RowOffset offset) {
  for (std::int64_t j = 0; j < t.n; j += kLanes) {
    const std::int64_t left = t.n - j, col = t.col + j;
    const vf scale = e.scale * (columns.scale ? load(columns.scale + col) : splat(1.0f));
    const vf bias = columns.bias ? load(columns.bias + col) : vf{};
    const vf prelu = columns.prelu ? load(columns.prelu + col) : vf{};
    for (std::int64_t r = 0; r < t.rows; ++r) {
      const std::int64_t at = offset(r) + j;
      vf v = load(t.sums + r * t.stride + j) * scale + bias;
      if (e.addend) {
        const auto* wide = static_cast<const float*>(e.addend) + at;
        const auto* narrow = static_cast<const bf16*>(e.addend) + at;
        if (e.addend_dtype == DType::BF16) v += e.beta * (left >= kLanes ? load(narrow) : read_part(narrow, left));
        else v += e.beta * (left >= kLanes ? load(wide) : read_part(wide, left));
      }
      v = activate<kActivation>(v, e.leak, prelu);
      if (left >= kLanes) write(c + at, v);
      else write_part(c + at, v, left);
    }
  }
}

/// Finishes a tile into c; row r begins at element offset(r). The sums may be c itself.
template <class C, class RowOffset>
static void finish_tile(const EpilogueArgs& e, const Columns& columns, const SumTile& t, C* c, RowOffset offset) {
  using A = FusedActivation;
  switch (e.activation) {
    case A::None: return finish_as<A::None>(e, columns, t, c, offset);
    case A::Relu: return finish_as<A::Relu>(e, columns, t, c, offset);
    case A::Relu6: return finish_as<A::Relu6>(e, columns, t, c, offset);
    case A::Elu: return finish_as<A::Elu>(e, columns, t, c, offset);
    case A::LeakyRelu: return finish_as<A::LeakyRelu>(e, columns, t, c, offset);
    case A::Prelu: return finish_as<A::Prelu>(e, columns, t, c, offset);
    case A::Sigmoid: return finish_as<A::Sigmoid>(e, columns, t, c, offset);
    case A::Silu: return finish_as<A::Silu>(e, columns, t, c, offset);
    case A::Gelu: return finish_as<A::Gelu>(e, columns, t, c, offset);
    case A::QuickGelu: return finish_as<A::QuickGelu>(e, columns, t, c, offset);
  }
}

/// The same into a tensor of either storage; nothing to do where the sums lie in place and stay as they are.
template <class RowOffset>
static void finish_into(const EpilogueArgs& e, const Columns& columns, const SumTile& t, void* c, DType dtype,
                        RowOffset offset) {
  if (dtype == DType::BF16) {
    finish_tile(e, columns, t, static_cast<bf16*>(c), offset);
  } else if (auto* out = static_cast<float*>(c); t.sums != out + offset(0) || !e.trivial()) {
    finish_tile(e, columns, t, out, offset);
  }
}

}  // namespace eq::EQ_ISA
