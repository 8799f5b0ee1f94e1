#include "op.h"

#include <cmath>

#include "kernels/elementwise/operand.h"
#include "kernels/math.h"
#include "runtime/cpu/device.h"

EQ_DECLARE_ISA(void unary_compute(const UnaryArgs& a, ThreadPool& pool))

namespace eq::EQ_ISA {

namespace {

using FloatMap = void (*)(const float* x, float* y, std::int64_t n, float alpha);
using IntMap = void (*)(const std::int32_t* x, std::int32_t* y, std::int64_t n, float alpha);

/// A function of vectors.
template <vf (*F)(vf)>
void vectors(const float* x, float* y, std::int64_t n, float) {
  map_vectors(x, y, n, [](vf v) { return F(v); });
}
/// A function of single numbers; simple ones are vectorised by the compiler, the others call libm.
template <auto F>
void scalars(const float* x, float* y, std::int64_t n, float alpha) {
  for (std::int64_t i = 0; i < n; ++i) y[i] = F(x[i], alpha);
}
template <auto F>
void integers(const std::int32_t* x, std::int32_t* y, std::int64_t n, float alpha) {
  for (std::int64_t i = 0; i < n; ++i) y[i] = F(x[i], alpha);
}

constexpr float kSeluScale = 1.0507009873554805f, kSeluAlpha = 1.6732632423543772f;

FloatMap float_map(UnaryOp op) {
  switch (op) {
    case UnaryOp::Abs:
      return vectors<vabs>;
    case UnaryOp::Neg:
      return scalars<[](float x, float) { return -x; }>;
    case UnaryOp::Square:
      return scalars<[](float x, float) { return x * x; }>;
    // NaN gives 0, as in TensorFlow.js.
    case UnaryOp::Sign:
      return scalars<[](float x, float) { return static_cast<float>((0 < x) - (x < 0)); }>;
    case UnaryOp::Floor:
      return scalars<[](float x, float) { return std::floor(x); }>;
    case UnaryOp::Ceil:
      return scalars<[](float x, float) { return std::ceil(x); }>;
    case UnaryOp::Round:
      return scalars<[](float x, float) { return std::nearbyint(x); }>;  // ties to even
    case UnaryOp::Relu:
      return scalars<[](float x, float) { return x < 0 ? 0.0f : x; }>;
    case UnaryOp::Relu6:
      return scalars<[](float x, float) { return x < 0 ? 0.0f : 6 < x ? 6.0f : x; }>;
    case UnaryOp::Step:
      return scalars<[](float x, float alpha) { return x != x ? x : 0 < x ? 1.0f : alpha; }>;
    case UnaryOp::Exp:
      return vectors<vexp>;
    case UnaryOp::Expm1:
      return scalars<[](float x, float) { return std::expm1(x); }>;
    case UnaryOp::Log:
      return vectors<vlog>;
    case UnaryOp::Log1p:
      return vectors<vlog1p>;
    case UnaryOp::Sqrt:
      return scalars<[](float x, float) { return std::sqrt(x); }>;
    case UnaryOp::Rsqrt:
      return scalars<[](float x, float) { return 1.0f / std::sqrt(x); }>;
    case UnaryOp::Reciprocal:
      return scalars<[](float x, float) { return 1.0f / x; }>;
    case UnaryOp::Sin:
      return scalars<[](float x, float) { return std::sin(x); }>;
    case UnaryOp::Cos:
      return scalars<[](float x, float) { return std::cos(x); }>;
    // Near its poles the result magnifies the last bit of a single-precision reduction.
    case UnaryOp::Tan:
      return scalars<[](float x, float) { return static_cast<float>(std::tan(static_cast<double>(x))); }>;
    case UnaryOp::Asin:
      return scalars<[](float x, float) { return std::asin(x); }>;
    case UnaryOp::Acos:
      return scalars<[](float x, float) { return std::acos(x); }>;
    case UnaryOp::Atan:
      return scalars<[](float x, float) { return std::atan(x); }>;
    case UnaryOp::Sinh:
      return scalars<[](float x, float) { return std::sinh(x); }>;
    case UnaryOp::Cosh:
      return scalars<[](float x, float) { return std::cosh(x); }>;
    case UnaryOp::Asinh:
      return scalars<[](float x, float) { return std::asinh(x); }>;
    case UnaryOp::Acosh:
      return scalars<[](float x, float) { return std::acosh(x); }>;
    case UnaryOp::Atanh:
      return scalars<[](float x, float) { return std::atanh(x); }>;
    case UnaryOp::Tanh:
      return vectors<vtanh>;
    case UnaryOp::Erf:
      return vectors<verf>;
    case UnaryOp::Sigmoid:
      return vectors<vsigmoid>;
    case UnaryOp::Elu:
      return scalars<[](float x, float) { return x < 0 ? std::expm1(x) : x; }>;
    case UnaryOp::Selu:
      return scalars<[](float x, float) { return kSeluScale * (x < 0 ? kSeluAlpha * std::expm1(x) : x); }>;
    case UnaryOp::Softplus:
      return vectors<vsoftplus>;
    case UnaryOp::LeakyRelu:
      return scalars<[](float x, float alpha) { return x < 0 ? alpha * x : x; }>;
    default:
      return nullptr;
  }
}

/// Two's complement throughout: the negative of the least integer is itself, squares wrap.
IntMap int_map(UnaryOp op) {
  switch (op) {
    case UnaryOp::Abs:
      return integers<[](std::int32_t x, float) {
        return x < 0 ? static_cast<std::int32_t>(0u - static_cast<std::uint32_t>(x)) : x;
      }>;
    case UnaryOp::Neg:
      return integers<[](std::int32_t x, float) {
        return static_cast<std::int32_t>(0u - static_cast<std::uint32_t>(x));
      }>;
    case UnaryOp::Square:
      return integers<[](std::int32_t x, float) {
        return static_cast<std::int32_t>(static_cast<std::uint32_t>(x) * static_cast<std::uint32_t>(x));
      }>;
    case UnaryOp::Sign:
      return integers<[](std::int32_t x, float) { return (0 < x) - (x < 0); }>;
    case UnaryOp::Relu:
      return integers<[](std::int32_t x, float) { return x < 0 ? 0 : x; }>;
    case UnaryOp::Relu6:
      return integers<[](std::int32_t x, float) { return x < 0 ? 0 : 6 < x ? 6 : x; }>;
    case UnaryOp::Step:
      return integers<[](std::int32_t x, float alpha) { return 0 < x ? 1 : static_cast<std::int32_t>(alpha); }>;
    default:
      return integers<[](std::int32_t x, float) { return x; }>;  // Floor, Ceil, Round
  }
}

bool test(UnaryOp op, float x) {
  switch (op) {
    case UnaryOp::IsNan:
      return x != x;
    case UnaryOp::IsInf:
      return x == __builtin_inff() || x == -__builtin_inff();
    case UnaryOp::IsFinite:
      return x - x == 0;
    default:
      return x == 0;  // LogicalNot
  }
}

template <class T, class Map>
void map_range(const UnaryArgs& a, Map map, std::int64_t begin, std::int64_t end) {
  alignas(64) T in[kBlock], out[kBlock];
  for_blocks(begin, end, [&](std::int64_t at, std::int64_t n) {
    T* y = block_target(a.y, a.y_type, at, out);
    map(load_block(a.x, a.x_type, at, n, in), y, n, a.alpha);
    finish_block(a.y, a.y_type, at, n, y);
  });
}

void test_range(const UnaryArgs& a, std::int64_t begin, std::int64_t end) {
  alignas(64) float in[kBlock];
  auto* y = static_cast<std::uint8_t*>(a.y);
  for_blocks(begin, end, [&](std::int64_t at, std::int64_t n) {
    const float* x = load_block(a.x, a.x_type, at, n, in);
    for (std::int64_t i = 0; i < n; ++i) y[at + i] = test(a.op, x[i]);
  });
}

}  // namespace

void unary_compute(const UnaryArgs& a, ThreadPool& pool) {
  const UnaryKind kind = unary_traits(a.op).kind;
  pool.parallel_for(a.n, 1 << 14, [&](std::int64_t begin, std::int64_t end) {
    if (kind == UnaryKind::Test)
      test_range(a, begin, end);
    else if (a.y_type == DType::I32)
      map_range<std::int32_t>(a, int_map(a.op), begin, end);
    else
      map_range<float>(a, float_map(a.op), begin, end);
  });
}

}  // namespace eq::EQ_ISA

#if EQ_ISA_BASE
namespace eq {

void unary_launch(Device& device, const OpInfo& info, const UnaryArgs& args) {
  cpu(device).launch(info, [args](ThreadPool& pool) { EQ_DISPATCH(unary_compute)(args, pool); });
}

}  // namespace eq
#endif
