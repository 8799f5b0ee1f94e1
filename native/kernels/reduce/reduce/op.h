// Reductions over the middle of [outer, reduced, inner]:  y[o, i] = reduce_r x[o, r, i].
// Sum, Mean and Prod accumulate in double precision (exact for int32 sums up to 2^53), Max and Min propagate NaN.
// Sum, Prod: floats -> f32, i32 and bool -> i32. Mean: f32. Max, Min: floats -> f32, others as x. All, Any: bool.
// FLOPs n, bytes n * size: memory-bound. The partition depends on the shape alone: any number of threads gives the
// same bits.
#pragma once

#include "runtime/device.h"

namespace eq {

enum class ReduceOp { Sum, Mean, Prod, Max, Min, All, Any };

inline const char* reduce_name(ReduceOp op) {
  static constexpr const char* names[] = {"Sum", "Mean", "Prod", "Max", "Min", "All", "Any"};
  return names[static_cast<int>(op)];
}

struct ReduceArgs {
  ReduceOp op;
  const void* x;
  void* y;
  DType x_type, y_type;
  std::int64_t outer, reduced, inner;
};
/// Implemented by each device.
void reduce_launch(Device& device, const OpInfo& info, const ReduceArgs& args);

/// y has shape [outer, inner]. An empty reduction gives 0 (Sum), NaN (Mean), 1 (Prod, All), 0 (Any), -inf / +inf (Max,
/// Min).
inline Tensor reduce(Device& device, ReduceOp op, const Tensor& x, std::int64_t outer, std::int64_t reduced,
                     std::int64_t inner) {
  const char* name = reduce_name(op);
  check_range(Shape({outer, reduced, inner}).numel() == x.numel(), name, ": [", outer, ",", reduced, ",", inner,
              "] does not have the ", x.numel(), " elements of x");
  const bool logical = op == ReduceOp::All || op == ReduceOp::Any;
  check_type(!logical || x.dtype == DType::Bool, name, ": x must be bool, got ", dtype_name(x.dtype));
  DType type = DType::F32;
  if (op == ReduceOp::Sum || op == ReduceOp::Prod)
    type = is_float(x.dtype) ? DType::F32 : DType::I32;
  else if (op != ReduceOp::Mean && !is_float(x.dtype))
    type = x.dtype;
  Tensor y = device.empty(type, {outer, inner});
  if (y.numel() == 0) return y;
  reduce_launch(device, {name, {x.shape}, static_cast<double>(x.numel()), static_cast<double>(x.bytes() + y.bytes())},
                {op, x.data(), y.data(), x.dtype, type, outer, reduced, inner});
  return y;
}

}  // namespace eq
