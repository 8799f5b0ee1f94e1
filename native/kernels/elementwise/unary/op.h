// Elementwise functions of one tensor:  y_i = f(x_i), f from ops.h.
// x, y: any shape. FLOPs counted as n, bytes n * (size of x + size of y): memory-bound but for the libm ones.
#pragma once

#include "kernels/elementwise/unary/ops.h"
#include "runtime/device.h"

namespace eq {

#define EQ_UNARY_ENUM(id, name, js, kind) id,
enum class UnaryOp { EQ_UNARY_OPS(EQ_UNARY_ENUM) };
#undef EQ_UNARY_ENUM
enum class UnaryKind { Keep, Float, Test };

struct UnaryTraits {
  const char* name;
  UnaryKind kind;
};
inline const UnaryTraits& unary_traits(UnaryOp op) {
#define EQ_UNARY_TRAITS(id, name, js, kind) {name, UnaryKind::kind},
  static constexpr UnaryTraits table[] = {EQ_UNARY_OPS(EQ_UNARY_TRAITS)};
#undef EQ_UNARY_TRAITS
  return table[static_cast<int>(op)];
}

struct UnaryArgs {
  UnaryOp op;
  const void* x;
  void* y;
  DType x_type, y_type;
  std::int64_t n;
  float alpha;  ///< slope or value below 0 (LeakyRelu, Step)
};
/// Implemented by each device.
void unary_launch(Device& device, const OpInfo& info, const UnaryArgs& args);

inline Tensor unary(Device& device, UnaryOp op, const Tensor& x, float alpha = 0) {
  const auto& [name, kind] = unary_traits(op);
  check_type(kind != UnaryKind::Keep || x.dtype != DType::Bool, name, ": x must be float32 or int32, got bool");
  const DType type = kind == UnaryKind::Test                        ? DType::Bool
                     : kind == UnaryKind::Keep || is_float(x.dtype) ? x.dtype
                                                                    : DType::F32;
  Tensor y = device.empty(type, x.shape);
  unary_launch(device, {name, {x.shape}, static_cast<double>(x.numel()), static_cast<double>(x.bytes() + y.bytes())},
               {op, x.data(), y.data(), x.dtype, type, x.numel(), alpha});
  return y;
}

}  // namespace eq
