// One launch of the map kernel for each function: n * (size of x + size of y) bytes. Errors of CUDA's single-precision
// library are within 2 ulp but for acosh (4), and tan near its poles: those two are evaluated in double precision.
#include "kernels/elementwise/map.cuh"
#include "op.h"

namespace eq {

namespace {

constexpr float kSeluScale = 1.0507009873554805f, kSeluAlpha = 1.6732632423543772f;

template <UnaryOp op>
constexpr bool kInLibrary = op == UnaryOp::Sin || op == UnaryOp::Cos || op == UnaryOp::Tan || op == UnaryOp::Asin ||
                            op == UnaryOp::Acos || op == UnaryOp::Atan || op == UnaryOp::Sinh || op == UnaryOp::Cosh ||
                            op == UnaryOp::Asinh || op == UnaryOp::Acosh || op == UnaryOp::Atanh;
/// The longer functions of the math library, out of line: nine copies in each kernel are not worth their size.
template <UnaryOp op>
__device__ __noinline__ float library(float x) {
  if constexpr (op == UnaryOp::Sin) return sinf(x);
  if constexpr (op == UnaryOp::Cos) return cosf(x);
  if constexpr (op == UnaryOp::Tan) return static_cast<float>(tan(static_cast<double>(x)));
  if constexpr (op == UnaryOp::Asin) return asinf(x);
  if constexpr (op == UnaryOp::Acos) return acosf(x);
  if constexpr (op == UnaryOp::Atan) return atanf(x);
  if constexpr (op == UnaryOp::Sinh) return sinhf(x);
  if constexpr (op == UnaryOp::Cosh) return coshf(x);
  if constexpr (op == UnaryOp::Asinh) return asinhf(x);
  if constexpr (op == UnaryOp::Acosh) return static_cast<float>(acosh(static_cast<double>(x)));
  if constexpr (op == UnaryOp::Atanh) return atanhf(x);
}

/// What a function computes with: the functions of floats ...
template <UnaryOp op>
struct FloatFunction {
  using In = float;
  using Out = float;
  float alpha;

  __device__ float operator()(float x) const {
    if constexpr (op == UnaryOp::Abs) return fabsf(x);
    if constexpr (op == UnaryOp::Neg) return -x;
    if constexpr (op == UnaryOp::Square) return x * x;
    // NaN gives 0, as in TensorFlow.js.
    if constexpr (op == UnaryOp::Sign) return static_cast<float>((0 < x) - (x < 0));
    if constexpr (op == UnaryOp::Floor) return floorf(x);
    if constexpr (op == UnaryOp::Ceil) return ceilf(x);
    if constexpr (op == UnaryOp::Round) return rintf(x);  // ties to even
    if constexpr (op == UnaryOp::Relu) return x < 0 ? 0.0f : x;
    if constexpr (op == UnaryOp::Relu6) return x < 0 ? 0.0f : 6 < x ? 6.0f : x;
    if constexpr (op == UnaryOp::Step) return x != x ? x : 0 < x ? 1.0f : alpha;
    if constexpr (op == UnaryOp::Exp) return expf(x);
    if constexpr (op == UnaryOp::Expm1) return expm1f(x);
    if constexpr (op == UnaryOp::Log) return logf(x);
    if constexpr (op == UnaryOp::Log1p) return log1pf(x);
    if constexpr (op == UnaryOp::Sqrt) return sqrtf(x);
    if constexpr (op == UnaryOp::Rsqrt) return 1.0f / sqrtf(x);
    if constexpr (op == UnaryOp::Reciprocal) return 1.0f / x;
    if constexpr (kInLibrary<op>) return library<op>(x);
    if constexpr (op == UnaryOp::Tanh) return tanhf(x);
    if constexpr (op == UnaryOp::Erf) return erff(x);
    if constexpr (op == UnaryOp::Sigmoid) {
      const float e = expf(-fabsf(x));
      return (x < 0 ? e : 1.0f) / (1.0f + e);
    }
    if constexpr (op == UnaryOp::Elu) return x < 0 ? expm1f(x) : x;
    if constexpr (op == UnaryOp::Selu) return kSeluScale * (x < 0 ? kSeluAlpha * expm1f(x) : x);
    if constexpr (op == UnaryOp::Softplus) return (x > 0 ? x : x != x ? x : 0.0f) + log1pf(expf(-fabsf(x)));
    if constexpr (op == UnaryOp::LeakyRelu) return x < 0 ? alpha * x : x;
  }
};

/// ... of int32, where two's complement rules: the negative of the least integer is itself, squares wrap ...
template <UnaryOp op>
struct IntFunction {
  using In = int;
  using Out = int;
  float alpha;

  __device__ int operator()(int x) const {
    const auto bits = static_cast<unsigned>(x);
    if constexpr (op == UnaryOp::Abs) return x < 0 ? static_cast<int>(0u - bits) : x;
    if constexpr (op == UnaryOp::Neg) return static_cast<int>(0u - bits);
    if constexpr (op == UnaryOp::Square) return static_cast<int>(bits * bits);
    if constexpr (op == UnaryOp::Sign) return (0 < x) - (x < 0);
    if constexpr (op == UnaryOp::Relu) return x < 0 ? 0 : x;
    if constexpr (op == UnaryOp::Relu6) return x < 0 ? 0 : 6 < x ? 6 : x;
    if constexpr (op == UnaryOp::Step) return 0 < x ? 1 : static_cast<int>(alpha);
    return x;  // Floor, Ceil, Round
  }
};

/// ... and those that tell something about a number.
template <UnaryOp op>
struct Test {
  using In = float;
  using Out = unsigned char;
  float alpha;

  __device__ unsigned char operator()(float x) const {
    if constexpr (op == UnaryOp::IsNan) return x != x;
    if constexpr (op == UnaryOp::IsInf) return fabsf(x) == INFINITY;
    if constexpr (op == UnaryOp::IsFinite) return x - x == 0;
    if constexpr (op == UnaryOp::LogicalNot) return x == 0;
  }
};

template <template <UnaryOp> class Function, UnaryOp op>
void launch(Device& device, const OpInfo& info, const Map<1>& map, float alpha) {
  launch_map(device, info, map, Function<op>{alpha});
}

using Launcher = void (*)(Device&, const OpInfo&, const Map<1>&, float);
struct Launchers {
  Launcher floats, integers;
};
template <UnaryOp op, UnaryKind kind>
constexpr Launchers launchers() {
  if constexpr (kind == UnaryKind::Test)
    return {launch<Test, op>, launch<Test, op>};
  else if constexpr (kind == UnaryKind::Keep)
    return {launch<FloatFunction, op>, launch<IntFunction, op>};
  else
    return {launch<FloatFunction, op>, launch<FloatFunction, op>};  // integers are read as floats
}

}  // namespace

void unary_launch(Device& device, const OpInfo& info, const UnaryArgs& args) {
#define EQ_UNARY_LAUNCHERS(id, name, js, kind) launchers<UnaryOp::id, UnaryKind::kind>(),
  static constexpr Launchers table[] = {EQ_UNARY_OPS(EQ_UNARY_LAUNCHERS)};
#undef EQ_UNARY_LAUNCHERS
  const auto& [floats, integers] = table[static_cast<int>(args.op)];
  (is_float(args.x_type) ? floats : integers)(device, info, make_map(args.x, args.x_type, args.y, args.y_type, args.n),
                                              args.alpha);
}

}  // namespace eq
