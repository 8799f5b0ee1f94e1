// ScatterNd:           y = 0;  y[indices[n], :] += updates[n, :]   (repeated indices add up).
// TensorScatterUpdate: y = x;  y[indices[n], :]  = updates[n, :]   (the last update wins).
// y: [dims..., slice]; indices: i32 [count, depth]; updates: [count, slice], or one element for all, storage of y.
// An index outside its dimension is a fault. Updates are applied in order: bytes 3 * size of updates + size of y.
#pragma once

#include "kernels/index/nd_index.h"
#include "kernels/movement/copy/op.h"
#include "runtime/device.h"

namespace eq {

struct ScatterNdArgs {
  const std::int32_t* indices;
  const void* updates;
  void* y;
  DType type;
  bool add, one_update;
  std::int64_t count, slice;
  NdIndex index;
};
/// Implemented by each device; y is initialised already.
void scatter_nd_launch(Device& device, const OpInfo& info, const ScatterNdArgs& args);

/// Without `base`, adds to zeros; with it, assigns over a copy of it.
inline Tensor scatter_nd(Device& device, const Tensor& base, const Tensor& indices, const Tensor& updates,
                         const std::vector<std::int64_t>& dims, std::int64_t slice, std::int64_t count) {
  const char* op = base ? "TensorScatterUpdate" : "ScatterNd";
  std::vector<std::int64_t> full(dims);
  full.push_back(slice);
  check_range(full.size() <= Shape::kMaxRank, op, ": ", dims.size(), " indexed dimensions");
  const Shape shape(full.data(), static_cast<int>(full.size()));
  const NdIndex index = nd_index(op, dims, slice, base ? base.numel() : shape.numel(), indices, count);
  check_range(updates.numel() == 1 || updates.numel() == Shape({count, slice}).numel(), op, ": updates has ",
              updates.numel(), " elements, not ", count, " * ", slice);
  const DType type = base ? base.dtype : updates.dtype;
  const Tensor values = cast(device, updates, type);
  Tensor y = base ? strided_view(device, op, base, {base.numel()}, {1}, 0) : fill(device, type, shape, 0);
  scatter_nd_launch(
      device,
      {op,
       {shape, indices.shape, updates.shape},
       0,
       3 * static_cast<double>(updates.bytes()) + static_cast<double>(y.bytes())},
      {indices.data<std::int32_t>(), values.data(), y.data(), type, !base, updates.numel() == 1, count, slice, index});
  return y;
}

}  // namespace eq
