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

inline Tensor select(Device& device, const Tensor& condition, const Tensor& a, const Tensor& b) {
  check_type(condition.dtype == DType::Bool, "Select: condition must be bool, got ", dtype_name(condition.dtype));
  const Shape shape = broadcast_shape("Select", broadcast_shape("Select", a.shape, b.shape), condition.shape);
  Tensor y = device.empty(promote({&a, &b}), shape);
  SelectArgs args{condition.data(), a.data(), b.data(), y.data(), a.dtype, b.dtype, y.dtype, shape.numel(), {}};
  for (const Tensor* t : {&condition, &a, &b}) add_broadcast_operand(args.loops, shape, t->shape);
  args.loops.collapse();
  select_launch(device,
                {"Select",
                 {condition.shape, a.shape, b.shape},
                 static_cast<double>(y.numel()),
                 static_cast<double>(condition.bytes() + a.bytes() + b.bytes() + y.bytes())},
                args);
  return y;
}

}  // namespace eq
