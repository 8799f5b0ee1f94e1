// The two forms in which the forward kernel multiplies: f32 everywhere, and pairs of bf16 (vdpbf16ps) where the
// processor has it and all inputs are stored so. Both offer the same four steps.
#pragma once

#include "kernels/attention/attention.h"
#include "kernels/attention/tile.h"
#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

namespace eq::EQ_ISA {

/// Operands in f32.
struct WideOperands {
  using Element = float;
  static std::int64_t row_width(std::int64_t depth) { return depth; }
  static void load_query(const void* q, DType type, std::int64_t offset, std::int64_t depth, float* to) {
    widen_row(q, type, offset, to, depth);
  }
  static void pack_keys(const void* k, DType type, std::int64_t offset, std::int64_t stride, const AttentionDims& d,
                        float* to) {
    pack_columns(k, type, offset, stride, d.lk, d.depth, to);
  }
  static void pack_values(const void* v, DType type, std::int64_t offset, std::int64_t stride, const AttentionDims& d,
                          float* to) {
    pack_rows(v, type, offset, stride, d.lk, d.depth, to);
  }
  /// s[rows x n] = q k^T, for keys from `key`.
  static void scores(const float* q, std::int64_t rows, const float* k, std::int64_t key, std::int64_t n,
                     const AttentionDims& d, float* s, std::int64_t s_row) {
    tile_product({q, d.depth, 1}, rows, k + key * d.depth, d.depth * kPanel, d.depth, panels(n), s, s_row, false);
  }
  /// o[rows x depth] += p v.
  static void mix(const float* p, std::int64_t p_row, std::int64_t rows, const float* v, std::int64_t key,
                  std::int64_t n, const AttentionDims& d, float* o, std::int64_t o_row) {
    tile_product({p, p_row, 1}, rows, v + key * kPanel, d.lk * kPanel, n, panels(d.depth), o, o_row, true);
  }
};

#if defined(__AVX512BF16__)

/// Operands in bf16, two neighbours along the summed axis side by side; an odd last one is paired with zero.
struct PairedOperands {
  using Element = bf16;
  static std::int64_t pairs(std::int64_t n) { return (n + 1) / 2; }
  static std::int64_t row_width(std::int64_t depth) { return 2 * pairs(depth); }

  static void load_query(const void* q, DType, std::int64_t offset, std::int64_t depth, bf16* to) {
    std::memcpy(static_cast<void*>(to), static_cast<const bf16*>(q) + offset,
                static_cast<std::size_t>(depth) * sizeof(bf16));
    if (depth % 2) to[depth] = bf16(0.0f);
  }

  /// Panels [keys / kPanel][depth pairs][kPanel][2].
  static void pack_keys(const void* k, DType, std::int64_t offset, std::int64_t stride, const AttentionDims& d,
                        bf16* to) {
    const auto* x = static_cast<const bf16*>(k) + offset;
    for (std::int64_t p = 0; p < panels(d.lk); ++p)
      for (int j = 0; j < kPanel; ++j) {
        const std::int64_t i = p * kPanel + j;
        bf16* column = to + (p * pairs(d.depth) * kPanel + j) * 2;
        for (std::int64_t c = 0; c < 2 * pairs(d.depth); ++c)
          column[c / 2 * kPanel * 2 + c % 2] = i < d.lk && c < d.depth ? x[i * stride + c] : bf16(0.0f);
      }
  }

  /// Panels [depth / kPanel][key pairs][kPanel][2].
  static void pack_values(const void* v, DType, std::int64_t offset, std::int64_t stride, const AttentionDims& d,
                          bf16* to) {
    const auto* x = static_cast<const bf16*>(v) + offset;
    for (std::int64_t p = 0; p < panels(d.depth); ++p)
      for (std::int64_t i = 0; i < 2 * pairs(d.lk); ++i) {
        bf16* row = to + (p * pairs(d.lk) + i / 2) * kPanel * 2 + i % 2;
        for (int j = 0; j < kPanel; ++j) {
          const std::int64_t c = p * kPanel + j;
          row[2 * j] = i < d.lk && c < d.depth ? x[i * stride + c] : bf16(0.0f);
        }
      }
  }

  template <int R>
  static void tile(const bf16* a, std::int64_t a_row, const bf16* b, std::int64_t depth_pairs, float* c,
                   std::int64_t c_row, bool accumulate) {
    __m512 sum[R][kPanelVectors];
    for (int r = 0; r < R; ++r)
      for (int j = 0; j < kPanelVectors; ++j)
        sum[r][j] = accumulate ? _mm512_loadu_ps(c + r * c_row + j * kLanes) : _mm512_setzero_ps();
    for (std::int64_t k = 0; k < depth_pairs; ++k) {
      __m512bh col[kPanelVectors];
      for (int j = 0; j < kPanelVectors; ++j) col[j] = (__m512bh)_mm512_loadu_si512(b + (k * kPanel + j * kLanes) * 2);
      for (int r = 0; r < R; ++r) {
        std::int32_t pair;
        std::memcpy(&pair, a + r * a_row + 2 * k, sizeof pair);
        const auto x = (__m512bh)_mm512_set1_epi32(pair);
        for (int j = 0; j < kPanelVectors; ++j) sum[r][j] = _mm512_dpbf16_ps(sum[r][j], x, col[j]);
      }
    }
    for (int r = 0; r < R; ++r)
      for (int j = 0; j < kPanelVectors; ++j) _mm512_storeu_ps(c + r * c_row + j * kLanes, sum[r][j]);
  }

  static void product(const bf16* a, std::int64_t a_row, std::int64_t rows, const bf16* b, std::int64_t b_panel,
                      std::int64_t depth_pairs, std::int64_t panel_count, float* c, std::int64_t c_row,
                      bool accumulate) {
    for (std::int64_t p = 0; p < panel_count; ++p) {
      std::int64_t r = 0;
      const bf16* panel = b + p * b_panel;
      float* out = c + p * kPanel;
      for (; r + kRows <= rows; r += kRows)
        tile<kRows>(a + r * a_row, a_row, panel, depth_pairs, out + r * c_row, c_row, accumulate);
      for (; r + 4 <= rows; r += 4)
        tile<4>(a + r * a_row, a_row, panel, depth_pairs, out + r * c_row, c_row, accumulate);
      for (; r < rows; ++r) tile<1>(a + r * a_row, a_row, panel, depth_pairs, out + r * c_row, c_row, accumulate);
    }
  }

  static void scores(const bf16* q, std::int64_t rows, const bf16* k, std::int64_t key, std::int64_t n,
                     const AttentionDims& d, float* s, std::int64_t s_row) {
    const std::int64_t dp = pairs(d.depth);
    product(q, row_width(d.depth), rows, k + key * 2 * dp, dp * kPanel * 2, dp, panels(n), s, s_row, false);
  }
  static void mix(const bf16* p, std::int64_t p_row, std::int64_t rows, const bf16* v, std::int64_t key, std::int64_t n,
                  const AttentionDims& d, float* o, std::int64_t o_row) {
    product(p, p_row, rows, v + key * kPanel, pairs(d.lk) * kPanel * 2, pairs(n), panels(d.depth), o, o_row, true);
  }
};

#endif

}  // namespace eq::EQ_ISA
