// The epilogue of the matrix kernels on rows of f32 sums (see epilogue_args.h).
#pragma once

#include "epilogue_args.h"
#include "parts.h"

namespace eq::EQ_ISA {

/// Column vectors widened to f32 and padded to whole vectors; null where absent.
struct Columns {
  const float *scale = nullptr, *bias = nullptr, *prelu = nullptr;
};

/// Floats that Columns needs for n columns.
constexpr std::int64_t columns_size(std::int64_t n) { return 3 * round_up(n, kCols); }

static inline const float* widen_columns(const ColumnVector& v, std::int64_t n, float* to) {
  if (!v.data) return nullptr;
  const std::int64_t padded = round_up(n, kCols);
  for (std::int64_t j = 0; j < padded; ++j) {
    const std::int64_t i = v.scalar ? 0 : j;
    to[j] = j >= n                   ? 0.0f
            : v.dtype == DType::BF16 ? static_cast<float>(static_cast<const bf16*>(v.data)[i])
                                     : static_cast<const float*>(v.data)[i];
  }
  return to;
}

static inline Columns make_columns(const EpilogueArgs& e, std::int64_t n, float* room) {
  const std::int64_t padded = round_up(n, kCols);
  return {widen_columns(e.column_scale, n, room), widen_columns(e.bias, n, room + padded),
          widen_columns(e.prelu, n, room + 2 * padded)};
}

/// Finished sums of a tile: rows of `stride` floats, columns col .. col + n of the output.
struct SumTile {
  const float* sums;
  std::int64_t stride, rows, col, n;
};

/// Where the rows of a tile begin in the output, in elements.
struct RowOffsets {
  std::int64_t at[kMaxRows];

  static RowOffsets equidistant(std::int64_t first, std::int64_t step, std::int64_t rows) {
    RowOffsets o;
    for (std::int64_t r = 0; r < rows; ++r) o.at[r] = first + r * step;
    return o;
  }
};

/// Finishes a tile into a tensor of either storage. The sums may lie in the output; there is nothing to do then where
/// they stay as they are. Defined in cpu_epilogue.cc.
void finish_tile(const EpilogueArgs& e, const Columns& columns, const SumTile& tile, void* c, DType dtype,
                 const RowOffsets& offsets);

}  // namespace eq::EQ_ISA
