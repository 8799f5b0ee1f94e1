// What a matrix product does to a sum before it is stored. Shared by matmul, linear and convolution.
//
//   y = act(scale * column_scale_n * sum + bias_n + beta * addend)
#pragma once

#include <cstdint>

#include "runtime/dtype.h"

namespace eq {

/// The numbers are part of the binding (packages/native/src/ops/gemm.ts). Gelu is the exact one.
enum class FusedActivation : std::uint8_t {
  None = 0,
  Relu,
  Relu6,
  Elu,
  LeakyRelu,
  Prelu,
  Sigmoid,
  Silu,
  Gelu,
  QuickGelu
};

/// A vector over the output columns, or one value for all of them.
struct ColumnVector {
  const void* data = nullptr;
  DType dtype = DType::F32;
  bool scalar = false;
};

struct EpilogueArgs {
  float scale = 1.0f;
  ColumnVector column_scale, bias, prelu;
  FusedActivation activation = FusedActivation::None;
  float leak = 0.2f;             ///< slope of LeakyRelu
  const void* addend = nullptr;  ///< laid out as the output
  DType addend_dtype = DType::F32;
  float beta = 1.0f;

  bool trivial() const {
    return scale == 1.0f && !column_scale.data && !bias.data && activation == FusedActivation::None && !addend;
  }
};

}  // namespace eq
