// Softmax over the last dimension of [rows, columns]:  y = e^(x - max) / sum e^(x - max).
// x: f32 or bf16; y: f32. FLOPs about 12n, bytes n * (size + 4): three passes over a row that stays in cache.
#pragma once

#include "runtime/device.h"

namespace eq {

struct SoftmaxArgs {
  const void* x;
  float* y;
  DType x_type;
  std::int64_t rows, columns;
};
/// Implemented by each device.
void softmax_launch(Device& device, const OpInfo& info, const SoftmaxArgs& args);

inline Tensor softmax(Device& device, const Tensor& x, std::int64_t columns) {
  check_type(is_float(x.dtype), "Softmax: logits must be float32, got ", dtype_name(x.dtype));
  check_range(columns >= 0 && (columns == 0 ? x.numel() == 0 : x.numel() % columns == 0), "Softmax: rows of ", columns,
              " do not divide ", x.numel(), " elements");
  Tensor y = device.empty(DType::F32, x.shape);
  const std::int64_t rows = columns == 0 ? 0 : x.numel() / columns;
  softmax_launch(
      device, {"Softmax", {x.shape}, 12 * static_cast<double>(x.numel()), static_cast<double>(x.bytes() + y.bytes())},
      {x.data(), y.data<float>(), x.dtype, rows, columns});
  return y;
}

}  // namespace eq
