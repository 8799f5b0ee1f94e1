// Elementwise functions of two tensors with broadcasting:  y_i = f(a_i, b_i), f from ops.h.
// a, b: shapes that broadcast; y: the broadcast shape. FLOPs counted as n, bytes those of a, b and y.
// Integers: arithmetic wraps; x / 0 and x mod 0 give 0, as storing NaN or infinity in an Int32Array does.
#pragma once

#include "kernels/elementwise/binary/ops.h"
#include "kernels/elementwise/promote.h"
#include "kernels/strides.h"
#include "runtime/device.h"

namespace eq {

#define EQ_BINARY_ENUM(id, name, js, kind) id,
enum class BinaryOp { EQ_BINARY_OPS(EQ_BINARY_ENUM) };
#undef EQ_BINARY_ENUM
enum class BinaryKind { Numeric, Real, Test };

struct BinaryTraits {
  const char* name;
  BinaryKind kind;
};
inline const BinaryTraits& binary_traits(BinaryOp op) {
#define EQ_BINARY_TRAITS(id, name, js, kind) {name, BinaryKind::kind},
  static constexpr BinaryTraits table[] = {EQ_BINARY_OPS(EQ_BINARY_TRAITS)};
#undef EQ_BINARY_TRAITS
  return table[static_cast<int>(op)];
}

struct BinaryArgs {
  BinaryOp op;
  const void *a, *b;
  void* y;
  DType a_type, b_type, y_type;
  bool as_float;  ///< compute on floats; otherwise on int32
  std::int64_t n;
  Loops loops;  ///< over y; operands a, b
};
/// Implemented by each device.
void binary_launch(Device& device, const OpInfo& info, const BinaryArgs& args);

inline Tensor binary(Device& device, BinaryOp op, const Tensor& a, const Tensor& b) {
  const auto& [name, kind] = binary_traits(op);
  const Shape shape = broadcast_shape(name, a.shape, b.shape);
  const bool as_float = is_float(a.dtype) || is_float(b.dtype);
  check_type(kind != BinaryKind::Real || as_float, name, ": a and b must be float32, got ", dtype_name(a.dtype),
             " and ", dtype_name(b.dtype));
  const DType type = kind == BinaryKind::Test ? DType::Bool : promote({&a, &b});
  Tensor y = device.empty(type, shape);
  BinaryArgs args{op, a.data(), b.data(), y.data(), a.dtype, b.dtype, type, as_float, shape.numel(), {}};
  add_broadcast_operand(args.loops, shape, a.shape);
  add_broadcast_operand(args.loops, shape, b.shape);
  args.loops.collapse();
  binary_launch(device,
                {name,
                 {a.shape, b.shape},
                 static_cast<double>(y.numel()),
                 static_cast<double>(a.bytes() + b.bytes() + y.bytes())},
                args);
  return y;
}

}  // namespace eq
