// GatherV2:  y[b, o, n, i] = x[b, o, indices[b, n], i].
// x: [batch, outer, dim, inner], any storage; indices: i32 [batch, count]. An index outside 0..dim-1 is a fault.
// Bytes 2 * size of y + indices: memory-bound.
#pragma once

#include "runtime/device.h"

namespace eq {

struct GatherArgs {
  const void* x;
  const std::int32_t* indices;
  void* y;
  std::size_t element_size;
  std::int64_t batch, outer, dim, inner, count;
};
/// Implemented by each device.
void gather_launch(Device& device, const OpInfo& info, const GatherArgs& args);

inline Tensor gather(Device& device, const Tensor& x, const Tensor& indices, std::int64_t batch, std::int64_t outer,
                     std::int64_t dim, std::int64_t inner) {
  check_type(indices.dtype == DType::I32, "GatherV2: indices must be int32, got ", dtype_name(indices.dtype));
  check_range(Shape({batch, outer, dim, inner}).numel() == x.numel(), "GatherV2: [", batch, ",", outer, ",", dim, ",",
              inner, "] does not have the ", x.numel(), " elements of x");
  check_range(batch == 0 ? indices.numel() == 0 : indices.numel() % batch == 0, "GatherV2: ", indices.numel(),
              " indices for a batch of ", batch);
  const std::int64_t count = batch == 0 ? 0 : indices.numel() / batch;
  Tensor y = device.empty(x.dtype, {batch, outer, count, inner});
  gather_launch(
      device,
      {"GatherV2",
       {x.shape, indices.shape},
       0,
       2 * static_cast<double>(y.bytes()) + static_cast<double>(indices.bytes())},
      {x.data(), indices.data<std::int32_t>(), y.data(), dtype_size(x.dtype), batch, outer, dim, inner, count});
  return y;
}

}  // namespace eq
