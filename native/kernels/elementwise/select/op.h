// Select:  y_i = condition_i ? a_i : b_i, with broadcasting of all three.
// condition: bool. a, b: f32, bf16, i32 or bool. Bytes those of all tensors.
#pragma once

#include "kernels/elementwise/promote.h"
#include "kernels/strides.h"
#include "runtime/device.h"

namespace eq {

struct SelectArgs {
  const void *condition, *a, *b;
  void* y;
  DType a_type, b_type, y_type;
  std::int64_t n;
  Loops loops;  ///< over y; operands condition, a, b
};
/// Implemented by each device.
void select_launch(Device& device, const OpInfo& info, const SelectArgs& args);

/// The shapes need not be those of the handles: only the element counts must agree.
inline Tensor select(Device& device, const Tensor& condition, const Shape& condition_shape, const Tensor& a,
                     const Shape& a_shape, const Tensor& b, const Shape& b_shape) {
  check_type(condition.dtype == DType::Bool, "Select: condition must be bool, got ", dtype_name(condition.dtype));
  check_range(condition_shape.numel() == condition.numel() && a_shape.numel() == a.numel() &&
                  b_shape.numel() == b.numel(),
              "Select: shapes ", condition_shape.str(), ", ", a_shape.str(), ", ", b_shape.str(), " do not fit ",
              condition.numel(), ", ", a.numel(), ", ", b.numel(), " elements");
  const Shape shape = broadcast_shape("Select", broadcast_shape("Select", a_shape, b_shape), condition_shape);
  Tensor y = device.empty(promote({&a, &b}), shape);
  SelectArgs args{condition.data(), a.data(), b.data(), y.data(), a.dtype, b.dtype, y.dtype, shape.numel(), {}};
  for (const Shape* s : {&condition_shape, &a_shape, &b_shape}) add_broadcast_operand(args.loops, shape, *s);
  args.loops.collapse();
  select_launch(device, {"Select", {condition_shape, a_shape, b_shape}, static_cast<double>(y.numel()),
                         static_cast<double>(condition.bytes() + a.bytes() + b.bytes() + y.bytes())}, args);
  return y;
}

}  // namespace eq
