#include "epilogue.h"
#include "kernels/math.h"

namespace eq::EQ_ISA {

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

template <FusedActivation kActivation, class C>
static void finish_as(const EpilogueArgs& e, const Columns& columns, const SumTile& t, C* c,
                      const RowOffsets& offsets) {
  for (std::int64_t j = 0; j < t.n; j += kLanes) {
    const std::int64_t left = t.n - j, col = t.col + j;
    const vf scale = e.scale * (columns.scale ? load(columns.scale + col) : splat(1.0f));
    const vf bias = columns.bias ? load(columns.bias + col) : vf{};
    const vf prelu = columns.prelu ? load(columns.prelu + col) : vf{};
    for (std::int64_t r = 0; r < t.rows; ++r) {
      const std::int64_t at = offsets.at[r] + j;
      vf v = load(t.sums + r * t.stride + j) * scale + bias;
      if (e.addend) {
        const auto* wide = static_cast<const float*>(e.addend) + at;
        const auto* narrow = static_cast<const bf16*>(e.addend) + at;
        if (e.addend_dtype == DType::BF16)
          v += e.beta * (left >= kLanes ? load(narrow) : read_part(narrow, left));
        else
          v += e.beta * (left >= kLanes ? load(wide) : read_part(wide, left));
      }
      v = activate<kActivation>(v, e.leak, prelu);
      if (left >= kLanes)
        write(c + at, v);
      else
        write_part(c + at, v, left);
    }
  }
}

template <class C>
static void finish_in(const EpilogueArgs& e, const Columns& columns, const SumTile& t, C* c, const RowOffsets& o) {
  using A = FusedActivation;
  switch (e.activation) {
    case A::None:
      return finish_as<A::None>(e, columns, t, c, o);
    case A::Relu:
      return finish_as<A::Relu>(e, columns, t, c, o);
    case A::Relu6:
      return finish_as<A::Relu6>(e, columns, t, c, o);
    case A::Elu:
      return finish_as<A::Elu>(e, columns, t, c, o);
    case A::LeakyRelu:
      return finish_as<A::LeakyRelu>(e, columns, t, c, o);
    case A::Prelu:
      return finish_as<A::Prelu>(e, columns, t, c, o);
    case A::Sigmoid:
      return finish_as<A::Sigmoid>(e, columns, t, c, o);
    case A::Silu:
      return finish_as<A::Silu>(e, columns, t, c, o);
    case A::Gelu:
      return finish_as<A::Gelu>(e, columns, t, c, o);
    case A::QuickGelu:
      return finish_as<A::QuickGelu>(e, columns, t, c, o);
  }
}

void finish_tile(const EpilogueArgs& e, const Columns& columns, const SumTile& t, void* c, DType dtype,
                 const RowOffsets& offsets) {
  if (dtype == DType::BF16) {
    finish_in(e, columns, t, static_cast<bf16*>(c), offsets);
  } else if (auto* out = static_cast<float*>(c); t.sums != out + offsets.at[0] || !e.trivial()) {
    finish_in(e, columns, t, out, offsets);
  }
}

}  // namespace eq::EQ_ISA
