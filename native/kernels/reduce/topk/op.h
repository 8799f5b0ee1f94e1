// TopK along the last dimension of [rows, columns]: the k greatest, in descending order, and their indices.
// Equal values keep their order; NaN comes last. values: storage of x; indices: i32. O(columns log k) a row.
#pragma once

#include <utility>

#include "runtime/device.h"

namespace eq {

struct TopKArgs {
  const void* x;
  void* values;
  std::int32_t* indices;
  DType type;
  std::int64_t rows, columns, k;
};
/// Implemented by each device.
void topk_launch(Device& device, const OpInfo& info, const TopKArgs& args);

inline std::pair<Tensor, Tensor> topk(Device& device, const Tensor& x, std::int64_t columns, std::int64_t k) {
  check_range(columns >= 0 && (columns == 0 ? x.numel() == 0 : x.numel() % columns == 0), "TopK: rows of ", columns,
              " do not divide ", x.numel(), " elements");
  check_range(k >= 0 && k <= columns && columns <= INT32_MAX, "TopK: k must be in 0..", columns, ", got ", k);
  const std::int64_t rows = columns == 0 ? 0 : x.numel() / columns;
  Tensor values = device.empty(x.dtype, {rows, k}), indices = device.empty(DType::I32, {rows, k});
  topk_launch(device, {"TopK", {x.shape}, 0, static_cast<double>(x.bytes() + values.bytes() + indices.bytes())},
              {x.data(), values.data(), indices.data<std::int32_t>(), x.dtype, rows, columns, k});
  return {values, indices};
}

}  // namespace eq
