// Result storage of elementwise ops.
#pragma once

#include "runtime/tensor.h"

namespace eq {

/// Floats: bf16 when every float input is bf16, where one-element inputs adapt to the others; else f32.
/// Without floats: i32 if any input is, else bool.
inline DType promote(std::initializer_list<const Tensor*> inputs) {
  bool any_float = false, any_int = false, all_bf16 = true, large_float = false, large_f32 = false;
  for (const Tensor* t : inputs) {
    any_int |= t->dtype == DType::I32;
    if (!is_float(t->dtype)) continue;
    any_float = true;
    all_bf16 &= t->dtype == DType::BF16;
    if (t->numel() != 1) {
      large_float = true;
      large_f32 |= t->dtype != DType::BF16;
    }
  }
  if (!any_float) return any_int ? DType::I32 : DType::Bool;
  return (large_float ? !large_f32 : all_bf16) ? DType::BF16 : DType::F32;
}

}  // namespace eq
