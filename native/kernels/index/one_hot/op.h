// OneHot:  y[n, d] = d == indices[n] ? on : off.  indices: i32; y: [count, depth]. Bytes size of y: memory-bound.
#pragma once

#include "kernels/elementwise/fill/op.h"
#include "runtime/device.h"

namespace eq {

struct OneHotArgs {
  const std::int32_t* indices;
  void* y;
  DType type;
  std::int64_t count, depth;
  float on;
};
/// Implemented by each device; y is `off` already.
void one_hot_launch(Device& device, const OpInfo& info, const OneHotArgs& args);

inline Tensor one_hot(Device& device, const Tensor& indices, DType type, std::int64_t depth, double on, double off) {
  check_type(indices.dtype == DType::I32, "OneHot: indices must be int32, got ", dtype_name(indices.dtype));
  const std::int64_t count = indices.numel();
  Tensor y = fill(device, type, {count, depth}, off);
  one_hot_launch(device, {"OneHot", {indices.shape}, 0, static_cast<double>(indices.bytes())},
                 {indices.data<std::int32_t>(), y.data(), type, count, depth, static_cast<float>(on)});
  return y;
}

}  // namespace eq
