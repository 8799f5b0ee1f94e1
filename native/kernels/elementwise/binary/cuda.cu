// One launch of the map kernel for each function: the bytes of a, b and y. Broadcasting is in the operands' steps.
// pow and atan2 are evaluated in double precision: CUDA's single-precision ones err by up to 4 and 3 ulp.
#include "kernels/convert.cuh"
#include "kernels/elementwise/map.cuh"
#include "op.h"

namespace eq {

namespace {

// The longer functions are out of line: nine copies of each in a kernel are not worth their size.

/// Remainder with the sign of the divisor; NaN for b = 0.
__device__ __noinline__ float floor_mod(float a, float b) {
  const float r = fmodf(a, b);
  return (a < 0 && b < 0) || (a >= 0 && b >= 0) ? r : fmodf(r + b, b);
}
__device__ __noinline__ double power(double a, double b) { return pow(a, b); }
__device__ __noinline__ float angle(float a, float b) {
  return static_cast<float>(atan2(static_cast<double>(a), static_cast<double>(b)));
}

template <BinaryOp op>
struct FloatFunction {
  using In = float;
  using Out = float;
  __device__ float operator()(float a, float b) const {
    if constexpr (op == BinaryOp::Add) return a + b;
    if constexpr (op == BinaryOp::Sub) return a - b;
    if constexpr (op == BinaryOp::Multiply) return a * b;
    if constexpr (op == BinaryOp::RealDiv) return a / b;
    if constexpr (op == BinaryOp::FloorDiv) return floorf(a / b);
    if constexpr (op == BinaryOp::Mod) return floor_mod(a, b);
    if constexpr (op == BinaryOp::Pow) return b == 2 ? a * a : static_cast<float>(power(a, b));
    // NaN in either input gives NaN.
    if constexpr (op == BinaryOp::Maximum) return b < a || a != a ? a : b;
    if constexpr (op == BinaryOp::Minimum) return a < b || a != a ? a : b;
    if constexpr (op == BinaryOp::SquaredDifference) return (a - b) * (a - b);
    if constexpr (op == BinaryOp::Atan2) return angle(a, b);
    if constexpr (op == BinaryOp::Prelu) return a < 0 ? b * a : a;
    // a is dy, b is y = elu(x): the slope is 1 for y >= 0 and e^x = y + 1 below.
    if constexpr (op == BinaryOp::EluGrad) return b < 0 ? a * (b + 1) : a;
  }
};

/// What an Int32Array holds afterwards.
template <BinaryOp op>
struct IntFunction {
  using In = int;
  using Out = int;
  __device__ int operator()(int a, int b) const {
    const auto p = static_cast<unsigned>(a), q = static_cast<unsigned>(b);
    const auto x = static_cast<double>(a), y = static_cast<double>(b);
    if constexpr (op == BinaryOp::Add) return static_cast<int>(p + q);
    if constexpr (op == BinaryOp::Sub) return static_cast<int>(p - q);
    if constexpr (op == BinaryOp::Multiply) return static_cast<int>(p * q);
    if constexpr (op == BinaryOp::RealDiv) return to_int32(x / y);
    if constexpr (op == BinaryOp::FloorDiv) return to_int32(floor(x / y));
    if constexpr (op == BinaryOp::Mod) {
      const long long divisor = b;
      return b == 0 ? 0 : static_cast<int>((a % divisor + divisor) % divisor);
    }
    if constexpr (op == BinaryOp::Pow) return to_int32(power(x, y));
    if constexpr (op == BinaryOp::Maximum) return a < b ? b : a;
    if constexpr (op == BinaryOp::Minimum) return a < b ? a : b;
    if constexpr (op == BinaryOp::SquaredDifference) return static_cast<int>((p - q) * (p - q));
  }
};

template <BinaryOp op, class T>
struct Test {
  using In = T;
  using Out = unsigned char;
  __device__ unsigned char operator()(T a, T b) const {
    if constexpr (op == BinaryOp::Equal) return a == b;
    if constexpr (op == BinaryOp::NotEqual) return a != b;
    if constexpr (op == BinaryOp::Less) return a < b;
    if constexpr (op == BinaryOp::LessEqual) return a <= b;
    if constexpr (op == BinaryOp::Greater) return b < a;
    if constexpr (op == BinaryOp::GreaterEqual) return b <= a;
    if constexpr (op == BinaryOp::LogicalAnd) return (a != 0) & (b != 0);
    if constexpr (op == BinaryOp::LogicalOr) return (a != 0) | (b != 0);
  }
};

template <class F>
void launch(Device& device, const OpInfo& info, const Map<2>& map) {
  launch_map(device, info, map, F{});
}

using Launcher = void (*)(Device&, const OpInfo&, const Map<2>&);
struct Launchers {
  Launcher floats, integers;
};
template <BinaryOp op, BinaryKind kind>
constexpr Launchers launchers() {
  if constexpr (kind == BinaryKind::Test)
    return {launch<Test<op, float>>, launch<Test<op, int>>};
  else if constexpr (kind == BinaryKind::Numeric)
    return {launch<FloatFunction<op>>, launch<IntFunction<op>>};
  else
    return {launch<FloatFunction<op>>, nullptr};
}

}  // namespace

void binary_launch(Device& device, const OpInfo& info, const BinaryArgs& args) {
#define EQ_BINARY_LAUNCHERS(id, name, js, kind) launchers<BinaryOp::id, BinaryKind::kind>(),
  static constexpr Launchers table[] = {EQ_BINARY_OPS(EQ_BINARY_LAUNCHERS)};
#undef EQ_BINARY_LAUNCHERS
  const auto& [floats, integers] = table[static_cast<int>(args.op)];
  (args.as_float ? floats : integers)(
      device, info, make_map<2>({args.a, args.b}, {args.a_type, args.b_type}, args.y, args.y_type, args.loops));
}

}  // namespace eq
