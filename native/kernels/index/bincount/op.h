// Bincount of each row:  y[r, v] = sum of weights[r, i] (or 1) over i with x[r, i] = v; binary: 1 if there is any.
// x: i32 [rows, columns]; weights: f32 as x, or none; y: [rows, bins], f32 with weights, else i32.
// Values of `bins` and above are left out; a negative one is a fault. FLOPs n, bytes n * size + size of y.
#pragma once

#include "kernels/elementwise/cast/op.h"
#include "kernels/elementwise/fill/op.h"
#include "runtime/device.h"

namespace eq {

struct BincountArgs {
  const std::int32_t* x;
  const float* weights;  ///< null: every weight is 1 and y counts in i32
  void* y;
  bool binary;
  std::int64_t rows, columns, bins;
};
/// Implemented by each device; y is 0 already.
void bincount_launch(Device& device, const OpInfo& info, const BincountArgs& args);

inline Tensor bincount(Device& device, const Tensor& x, const Tensor& weights, std::int64_t rows, std::int64_t bins,
                       bool binary) {
  check_type(x.dtype == DType::I32, "Bincount: x must be int32, got ", dtype_name(x.dtype));
  check_range(rows > 0 ? x.numel() % rows == 0 : rows == 0 && x.numel() == 0, "Bincount: ", rows, " rows of ",
              x.numel(), " elements");
  check_range(!weights || weights.numel() == x.numel(), "Bincount: weights has ", weights ? weights.numel() : 0,
              " elements, x ", x.numel());
  const Tensor w = weights ? cast(device, weights, DType::F32) : Tensor{};
  Tensor y = fill(device, weights ? DType::F32 : DType::I32, {rows, bins}, 0);
  bincount_launch(device,
                  {"Bincount", {x.shape}, static_cast<double>(x.numel()), static_cast<double>(x.bytes() + y.bytes())},
                  {x.data<std::int32_t>(), w ? w.data<float>() : nullptr, y.data(), binary, rows,
                   rows ? x.numel() / rows : 0, bins});
  return y;
}

}  // namespace eq
