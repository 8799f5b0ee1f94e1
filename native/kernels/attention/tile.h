// Register-blocked products of the attention kernels on the CPU.
//
//   C[rows x n] (+)= A[rows x depth] * B[depth x n],  B packed in panels of kPanel columns: [n / kPanel][depth][kPanel]
//
// A may lie transposed: its strides are free. C's rows hold whole panels.
// A block of kRows x kPanel sums stays in registers: 24 of 32 registers on AVX-512, 12 of 16 elsewhere.
#pragma once

#include "kernels/math.h"

namespace eq::EQ_ISA {

constexpr int kPanelVectors = 2;
constexpr int kPanel = kPanelVectors * kLanes;
constexpr int kRows = EQ_SIMD_BYTES == 64 ? 12 : 6;

static inline std::int64_t panels(std::int64_t n) { return (n + kPanel - 1) / kPanel; }

/// Element (r, k) of A is at data[r * row + k * col].
struct TileA {
  const float* data;
  std::int64_t row, col;
};

template <int R>
static inline void tile_rows(TileA a, const float* b, std::int64_t depth, float* c, std::int64_t c_row,
                             bool accumulate) {
  vf sum[R][kPanelVectors];
  for (int r = 0; r < R; ++r)
    for (int j = 0; j < kPanelVectors; ++j) sum[r][j] = accumulate ? load(c + r * c_row + j * kLanes) : vf{};
  for (std::int64_t k = 0; k < depth; ++k) {
    vf col[kPanelVectors];
    for (int j = 0; j < kPanelVectors; ++j) col[j] = load(b + k * kPanel + j * kLanes);
    for (int r = 0; r < R; ++r) {
      const vf x = splat(a.data[r * a.row + k * a.col]);
      for (int j = 0; j < kPanelVectors; ++j) sum[r][j] += x * col[j];
    }
  }
  for (int r = 0; r < R; ++r)
    for (int j = 0; j < kPanelVectors; ++j) store(c + r * c_row + j * kLanes, sum[r][j]);
}

/// Rows beyond a multiple of kRows go through narrower tiles. `b_panel` is the distance between B's panels.
static inline void tile_product(TileA a, std::int64_t rows, const float* b, std::int64_t b_panel, std::int64_t depth,
                                std::int64_t panel_count, float* c, std::int64_t c_row, bool accumulate) {
  for (std::int64_t p = 0; p < panel_count; ++p) {
    const float* panel = b + p * b_panel;
    const auto rows_at = [&](std::int64_t r) { return TileA{a.data + r * a.row, a.row, a.col}; };
    float* out = c + p * kPanel;
    std::int64_t r = 0;
    for (; r + kRows <= rows; r += kRows)
      tile_rows<kRows>(rows_at(r), panel, depth, out + r * c_row, c_row, accumulate);
    for (; r + 4 <= rows; r += 4) tile_rows<4>(rows_at(r), panel, depth, out + r * c_row, c_row, accumulate);
    for (; r < rows; ++r) tile_rows<1>(rows_at(r), panel, depth, out + r * c_row, c_row, accumulate);
  }
}

template <class T>
static inline void widen_row(const T* from, float* to, std::int64_t n) {
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(to + i, load(from + i));
  for (; i < n; ++i) to[i] = from[i];
}
static inline void widen_row(const void* from, DType type, std::int64_t offset, float* to, std::int64_t n) {
  if (type == DType::BF16)
    widen_row(static_cast<const bf16*>(from) + offset, to, n);
  else
    widen_row(static_cast<const float*>(from) + offset, to, n);
}

/// Stores factor * from as f32 or bf16.
static inline void narrow_row(const float* from, float factor, void* to, DType type, std::int64_t offset,
                              std::int64_t n) {
  if (type == DType::BF16) {
    for (std::int64_t i = 0; i < n; ++i) static_cast<bf16*>(to)[offset + i] = bf16(from[i] * factor);
  } else {
    for (std::int64_t i = 0; i < n; ++i) static_cast<float*>(to)[offset + i] = from[i] * factor;
  }
}

template <class T>
static inline void pack_columns_of(const T* x, std::int64_t stride, std::int64_t count, std::int64_t depth,
                                   float* out) {
  for (std::int64_t p = 0; p < panels(count); ++p) {
    float* panel = out + p * depth * kPanel;
    for (int j = 0; j < kPanel; ++j) {
      const std::int64_t i = p * kPanel + j;
      const T* row = x + i * stride;
      for (std::int64_t d = 0; d < depth; ++d) panel[d * kPanel + j] = i < count ? static_cast<float>(row[d]) : 0.0f;
    }
  }
}
/// Rows [count x depth] of one head (row stride `stride` elements) as columns: panels [count / kPanel][depth][kPanel].
/// Columns beyond `count` are zero.
static inline void pack_columns(const void* x, DType type, std::int64_t offset, std::int64_t stride, std::int64_t count,
                                std::int64_t depth, float* out) {
  if (type == DType::BF16)
    pack_columns_of(static_cast<const bf16*>(x) + offset, stride, count, depth, out);
  else
    pack_columns_of(static_cast<const float*>(x) + offset, stride, count, depth, out);
}

/// The same rows as they are: panels [depth / kPanel][count][kPanel], channels beyond `depth` zero.
static inline void pack_rows(const void* x, DType type, std::int64_t offset, std::int64_t stride, std::int64_t count,
                             std::int64_t depth, float* out) {
  for (std::int64_t p = 0; p < panels(depth); ++p) {
    const std::int64_t first = p * kPanel;
    const std::int64_t n = depth - first < kPanel ? depth - first : kPanel;
    for (std::int64_t i = 0; i < count; ++i) {
      float* to = out + (p * count + i) * kPanel;
      widen_row(x, type, offset + i * stride + first, to, n);
      for (std::int64_t j = n; j < kPanel; ++j) to[j] = 0.0f;
    }
  }
}

}  // namespace eq::EQ_ISA
