// Indices of several dimensions, as GatherNd and ScatterNd take them.
#pragma once

#include <vector>

#include "runtime/tensor.h"

namespace eq {

/// The indexed leading dimensions of a tensor [dims..., slice].
struct NdIndex {
  int depth = 0;
  std::int64_t dims[Shape::kMaxRank] = {};

  std::int64_t rows() const {
    std::int64_t n = 1;
    for (int d = 0; d < depth; ++d) n *= dims[d];
    return n;
  }
  /// The row that an index tuple names, or -1 if it is outside.
  constexpr std::int64_t row(const std::int32_t* index) const {
    std::int64_t at = 0;
    for (int d = 0; d < depth; ++d) {
      if (index[d] < 0 || index[d] >= dims[d]) return -1;
      at = at * dims[d] + index[d];
    }
    return at;
  }
};

/// Checks that `indices` (i32) holds whole tuples over `dims`, and that dims and slice make up `numel` elements.
inline NdIndex nd_index(const char* op, const std::vector<std::int64_t>& dims, std::int64_t slice, std::int64_t numel,
                        const Tensor& indices, std::int64_t count) {
  check_type(indices.dtype == DType::I32, op, ": indices must be int32, got ", dtype_name(indices.dtype));
  check_range(dims.size() < Shape::kMaxRank, op, ": ", dims.size(), " indexed dimensions");
  NdIndex index;
  index.depth = static_cast<int>(dims.size());
  for (std::size_t d = 0; d < dims.size(); ++d) index.dims[d] = dims[d];
  std::vector<std::int64_t> shape(dims);
  shape.push_back(slice);
  check_range(Shape(shape.data(), static_cast<int>(shape.size())).numel() == numel, op,
              ": the indexed dimensions and slices of ", slice, " do not have ", numel, " elements");
  check_range(count >= 0 && count * index.depth == indices.numel(), op, ": ", indices.numel(), " indices for ", count,
              " tuples of ", index.depth);
  return index;
}

}  // namespace eq
