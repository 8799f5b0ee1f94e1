#include "op.h"

#include <cmath>

#include "kernels/convert.h"
#include "kernels/elementwise/operand.h"
#include "runtime/cpu/device.h"

EQ_DECLARE_ISA(void binary_compute(const BinaryArgs& a, ThreadPool& pool))

namespace eq::EQ_ISA {

namespace {

using std::int32_t;
using std::uint32_t;

template <class In, class Out>
using Map = void (*)(const In* a, const In* b, Out* y, std::int64_t n);

template <class In, class Out, auto F>
void map(const In* a, const In* b, Out* y, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) y[i] = static_cast<Out>(F(a[i], b[i]));
}
template <auto F>
constexpr Map<float, float> floats = map<float, float, F>;
template <auto F>
constexpr Map<int32_t, int32_t> integers = map<int32_t, int32_t, F>;

/// Remainder with the sign of the divisor; NaN for b = 0.
float floor_mod(float a, float b) {
  const float r = std::fmod(a, b);
  return (a < 0 && b < 0) || (a >= 0 && b >= 0) ? r : std::fmod(r + b, b);
}

Map<float, float> float_map(BinaryOp op) {
  switch (op) {
    case BinaryOp::Add:
      return floats<[](float a, float b) { return a + b; }>;
    case BinaryOp::Sub:
      return floats<[](float a, float b) { return a - b; }>;
    case BinaryOp::Multiply:
      return floats<[](float a, float b) { return a * b; }>;
    case BinaryOp::RealDiv:
      return floats<[](float a, float b) { return a / b; }>;
    case BinaryOp::FloorDiv:
      return floats<[](float a, float b) { return std::floor(a / b); }>;
    case BinaryOp::Mod:
      return floats<floor_mod>;
    case BinaryOp::Pow:
      return floats<[](float a, float b) { return std::pow(a, b); }>;
    // NaN in either input gives NaN.
    case BinaryOp::Maximum:
      return floats<[](float a, float b) { return b < a || a != a ? a : b; }>;
    case BinaryOp::Minimum:
      return floats<[](float a, float b) { return a < b || a != a ? a : b; }>;
    case BinaryOp::SquaredDifference:
      return floats<[](float a, float b) { return (a - b) * (a - b); }>;
    case BinaryOp::Atan2:
      return floats<[](float a, float b) { return std::atan2(a, b); }>;
    case BinaryOp::Prelu:
      return floats<[](float a, float b) { return a < 0 ? b * a : a; }>;
    // a is dy, b is y = elu(x): the slope is 1 for y >= 0 and e^x = y + 1 below.
    case BinaryOp::EluGrad:
      return floats<[](float a, float b) { return b < 0 ? a * (b + 1) : a; }>;
    default:
      return nullptr;
  }
}

Map<int32_t, int32_t> int_map(BinaryOp op) {
  switch (op) {
    case BinaryOp::Add:
      return integers<[](uint32_t a, uint32_t b) { return a + b; }>;
    case BinaryOp::Sub:
      return integers<[](uint32_t a, uint32_t b) { return a - b; }>;
    case BinaryOp::Multiply:
      return integers<[](uint32_t a, uint32_t b) { return a * b; }>;
    case BinaryOp::RealDiv:
      return integers<[](double a, double b) { return to_int32(a / b); }>;
    case BinaryOp::FloorDiv:
      return integers<[](double a, double b) { return to_int32(std::floor(a / b)); }>;
    case BinaryOp::Mod:
      return integers<[](std::int64_t a, std::int64_t b) { return b == 0 ? 0 : (a % b + b) % b; }>;
    case BinaryOp::Pow:
      return integers<[](double a, double b) { return to_int32(std::pow(a, b)); }>;
    case BinaryOp::Maximum:
      return integers<[](int32_t a, int32_t b) { return a < b ? b : a; }>;
    case BinaryOp::Minimum:
      return integers<[](int32_t a, int32_t b) { return a < b ? a : b; }>;
    case BinaryOp::SquaredDifference:
      return integers<[](uint32_t a, uint32_t b) { return (a - b) * (a - b); }>;
    default:
      return nullptr;
  }
}

template <class T>
Map<T, std::uint8_t> test_map(BinaryOp op) {
  switch (op) {
    case BinaryOp::Equal:
      return map<T, std::uint8_t, [](T a, T b) { return a == b; }>;
    case BinaryOp::NotEqual:
      return map<T, std::uint8_t, [](T a, T b) { return a != b; }>;
    case BinaryOp::Less:
      return map<T, std::uint8_t, [](T a, T b) { return a < b; }>;
    case BinaryOp::LessEqual:
      return map<T, std::uint8_t, [](T a, T b) { return a <= b; }>;
    case BinaryOp::Greater:
      return map<T, std::uint8_t, [](T a, T b) { return b < a; }>;
    case BinaryOp::GreaterEqual:
      return map<T, std::uint8_t, [](T a, T b) { return b <= a; }>;
    case BinaryOp::LogicalAnd:
      return map<T, std::uint8_t, [](T a, T b) { return (a != 0) & (b != 0); }>;
    default:
      return map<T, std::uint8_t, [](T a, T b) { return (a != 0) | (b != 0); }>;  // LogicalOr
  }
}

void square(const float* a, const float*, float* y, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) y[i] = a[i] * a[i];
}

template <class T>
void compute_range(const BinaryArgs& args, std::int64_t begin, std::int64_t end) {
  Operand<T> a(args.a, args.a_type, args.loops, 0), b(args.b, args.b_type, args.loops, 1);
  if (binary_traits(args.op).kind == BinaryKind::Test) {
    const auto f = test_map<T>(args.op);
    auto* y = static_cast<std::uint8_t*>(args.y);
    for_blocks(begin, end, [&](std::int64_t at, std::int64_t n) { f(a.read(at, n), b.read(at, n), y + at, n); });
    return;
  }
  Map<T, T> f;
  if constexpr (std::is_same_v<T, float>) {
    f = float_map(args.op);
    if (args.op == BinaryOp::Pow && b.scalar() && b.first() == 2.0f) f = square;
  } else {
    f = int_map(args.op);
  }
  alignas(64) T out[kBlock];
  for_blocks(begin, end, [&](std::int64_t at, std::int64_t n) {
    T* y = block_target(args.y, args.y_type, at, out);
    f(a.read(at, n), b.read(at, n), y, n);
    finish_block(args.y, args.y_type, at, n, y);
  });
}

}  // namespace

void binary_compute(const BinaryArgs& a, ThreadPool& pool) {
  pool.parallel_for(a.n, 1 << 14, [&](std::int64_t begin, std::int64_t end) {
    if (a.as_float)
      compute_range<float>(a, begin, end);
    else
      compute_range<std::int32_t>(a, begin, end);
  });
}

}  // namespace eq::EQ_ISA

#if EQ_ISA_BASE
namespace eq {

void binary_launch(Device& device, const OpInfo& info, const BinaryArgs& args) {
  cpu(device).launch(info, [args](ThreadPool& pool) { EQ_DISPATCH(binary_compute)(args, pool); });
}

}  // namespace eq
#endif
