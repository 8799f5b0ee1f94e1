// GatherNd:  y[n, :] = x[indices[n, 0], ..., indices[n, depth-1], :].
// x: [dims..., slice], any storage; indices: i32 [count, depth]. An index outside its dimension is a fault.
// Bytes 2 * size of y + indices: memory-bound.
#pragma once

#include "kernels/index/nd_index.h"
#include "runtime/device.h"

namespace eq {

struct GatherNdArgs {
  const void* x;
  const std::int32_t* indices;
  void* y;
  std::size_t slice_bytes;
  std::int64_t count;
  NdIndex index;
};
/// Implemented by each device.
void gather_nd_launch(Device& device, const OpInfo& info, const GatherNdArgs& args);

inline Tensor gather_nd(Device& device, const Tensor& x, const Tensor& indices, const std::vector<std::int64_t>& dims,
                        std::int64_t slice, std::int64_t count) {
  const NdIndex index = nd_index("GatherNd", dims, slice, x.numel(), indices, count);
  Tensor y = device.empty(x.dtype, {count, slice});
  gather_nd_launch(device,
                   {"GatherNd",
                    {x.shape, indices.shape},
                    0,
                    2 * static_cast<double>(y.bytes()) + static_cast<double>(indices.bytes())},
                   {x.data(), indices.data<std::int32_t>(), y.data(),
                    static_cast<std::size_t>(slice) * dtype_size(x.dtype), count, index});
  return y;
}

}  // namespace eq
