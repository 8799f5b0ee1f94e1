// Draws from categorical distributions:  y[r, s] = the first c with  sum_{c' <= c} p[r, c'] > uniform[r, s] * sum p[r,
// :]. probabilities: f32 [rows, classes]; uniforms: f32 [rows, samples] in [0, 1); y: i32 [rows, samples].
#pragma once

#include "kernels/elementwise/cast/op.h"
#include "runtime/device.h"

namespace eq {

struct MultinomialArgs {
  const float *probabilities, *uniforms;
  std::int32_t* y;
  std::int64_t rows, classes, samples;
};
/// Implemented by each device.
void multinomial_launch(Device& device, const OpInfo& info, const MultinomialArgs& args);

inline Tensor multinomial(Device& device, const Tensor& probabilities, const Tensor& uniforms, std::int64_t rows) {
  check_type(is_float(probabilities.dtype) && is_float(uniforms.dtype),
             "Multinomial: probabilities and uniforms must be float32");
  check_range(
      rows > 0 && probabilities.numel() % rows == 0 && uniforms.numel() % rows == 0 && probabilities.numel() > 0,
      "Multinomial: ", rows, " rows of ", probabilities.numel(), " probabilities and ", uniforms.numel(), " uniforms");
  const Tensor p = cast(device, probabilities, DType::F32), u = cast(device, uniforms, DType::F32);
  const std::int64_t samples = u.numel() / rows;
  Tensor y = device.empty(DType::I32, {rows, samples});
  multinomial_launch(device,
                     {"Multinomial", {p.shape, u.shape}, 0, static_cast<double>(p.bytes() + u.bytes() + y.bytes())},
                     {p.data<float>(), u.data<float>(), y.data<std::int32_t>(), rows, p.numel() / rows, samples});
  return y;
}

}  // namespace eq
