// Sum, Mean, Prod, Max, Min, All and Any by reduction.cuh, all in double precision, which holds every input exactly:
// one conversion and one or two operations in f64 an element, within the rate of H100 and A100 for the bytes they read.
#include "kernels/convert.cuh"
#include "kernels/reduce/reduction.cuh"
#include "op.h"

namespace eq {

namespace {

struct Sum {
  static constexpr double kIdentity = 0;
  __device__ static double combine(double a, double b) { return a + b; }
};
struct Prod {
  static constexpr double kIdentity = 1;
  __device__ static double combine(double a, double b) { return a * b; }
};
/// A NaN on either side stays: a >= b is false for it, and a != a finds it.
struct Max {
  static constexpr double kIdentity = -INFINITY;
  __device__ static double combine(double a, double b) { return a >= b || a != a ? a : b; }
};
struct Min {
  static constexpr double kIdentity = INFINITY;
  __device__ static double combine(double a, double b) { return a <= b || a != a ? a : b; }
};

template <class Rule>
struct Reduction {
  using Part = double;
  void* y;
  DType type;
  double divisor;  ///< the number of elements for Mean, else 0

  __device__ static double kEmpty() { return Rule::kIdentity; }
  __device__ double take(double part, double x, std::int64_t) const { return Rule::combine(part, x); }
  __device__ double combine(double a, double b) const { return Rule::combine(a, b); }
  __device__ void write(std::int64_t at, double value) const {
    if (divisor != 0) value /= divisor;
    if (type == DType::F32)
      static_cast<float*>(y)[at] = static_cast<float>(value);
    else if (type == DType::I32)
      static_cast<std::int32_t*>(y)[at] = to_int32(value);
    else
      static_cast<std::uint8_t*>(y)[at] = static_cast<std::uint8_t>(value > 0);
  }
};

template <class Rule>
void launch(Device& device, const OpInfo& info, const ReduceArgs& a) {
  // 0 / 0 is the mean of nothing.
  const bool empty_mean = a.op == ReduceOp::Mean && a.reduced == 0;
  const double divisor = a.op != ReduceOp::Mean ? 0 : empty_mean ? NAN : static_cast<double>(a.reduced);
  launch_reduction(device, info, a.x, a.x_type, a.outer, a.reduced, a.inner, Reduction<Rule>{a.y, a.y_type, divisor});
}

}  // namespace

void reduce_launch(Device& device, const OpInfo& info, const ReduceArgs& args) {
  switch (args.op) {
    case ReduceOp::Sum:
    case ReduceOp::Mean:
      return launch<Sum>(device, info, args);
    case ReduceOp::Prod:
      return launch<Prod>(device, info, args);
    case ReduceOp::Max:
    case ReduceOp::Any:
      return launch<Max>(device, info, args);
    case ReduceOp::Min:
    case ReduceOp::All:
      return launch<Min>(device, info, args);
  }
}

}  // namespace eq
