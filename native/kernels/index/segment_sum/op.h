// UnsortedSegmentSum:  y[s, :] = sum of x[r, :] over the rows r with segment s; rows of other segments are left out.
// x: [rows, inner]; ids: i32 [rows]; y: [segments, inner], f32 for floats (accumulated in f32, in row order), i32 else.
// FLOPs n, bytes n * size + size of y: memory-bound.
#pragma once

#include "kernels/elementwise/fill/op.h"
#include "runtime/device.h"

namespace eq {

struct SegmentSumArgs {
  const void* x;
  const std::int32_t* ids;
  void* y;
  DType x_type, y_type;
  std::int64_t rows, inner, segments;
};
/// Implemented by each device; y is 0 already.
void segment_sum_launch(Device& device, const OpInfo& info, const SegmentSumArgs& args);

inline Tensor segment_sum(Device& device, const Tensor& x, const Tensor& ids, std::int64_t inner,
                          std::int64_t segments) {
  check_type(ids.dtype == DType::I32, "UnsortedSegmentSum: segmentIds must be int32, got ", dtype_name(ids.dtype));
  const std::int64_t rows = ids.numel();
  check_range(Shape({rows, inner}).numel() == x.numel(), "UnsortedSegmentSum: [", rows, ",", inner,
              "] does not have the ", x.numel(), " elements of x");
  Tensor y = fill(device, is_float(x.dtype) ? DType::F32 : DType::I32, {segments, inner}, 0);
  segment_sum_launch(device,
                     {"UnsortedSegmentSum",
                      {x.shape, ids.shape},
                      static_cast<double>(x.numel()),
                      static_cast<double>(x.bytes() + y.bytes())},
                     {x.data(), ids.data<std::int32_t>(), y.data(), x.dtype, y.dtype, rows, inner, segments});
  return y;
}

}  // namespace eq
