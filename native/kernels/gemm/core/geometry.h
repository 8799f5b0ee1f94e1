// Blocking of the matrix kernels (Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication", 2008).
//
// A block of A, [mc x kc], is packed as panels of up to kRows rows and stays in the second-level cache; a panel of
// B, [kc x kCols], stays in the first-level cache while every panel of A passes. T is the panels' element type:
// float, or bf16 where the processor multiplies bf16 pairs.
//
//   A panel, row-major: element (i, k) at i * kStride + k.   A panel, k-major: [k / kPair][i][k % kPair], kRows wide
//   (not for tiles). B panel: [k / kPair][n][k % kPair], kCols wide; the last panel of a row of panels may be kLanes
//   wide.
//
// kStride is a constant that is no multiple of a page: rows never share cache sets, and addresses are immediates.
#pragma once

#include "kernels/simd.h"

namespace eq::EQ_ISA {

constexpr int kColVectors = 2;
constexpr int kCols = kColVectors * kLanes;

#if defined(__AMX_BF16__) || defined(EQ_AMX_EMULATE)
constexpr bool kTiles = true;
#else
constexpr bool kTiles = false;
#endif

template <class T>
struct Panel {
  /// Whether the AMX microkernel takes these panels.
  static constexpr bool kTiled = kTiles && sizeof(T) == 2;
  static constexpr int kRows = kTiled ? 32 : EQ_SIMD_BYTES == 64 ? 14 : 6;
  /// Microkernels write whole multiples of this many rows.
  static constexpr int kRowGranule = kTiled ? 16 : 1;
  static constexpr int kPair = 4 / static_cast<int>(sizeof(T));
  static constexpr int kDepth = kTiled ? 384 : 256 * kPair;
  static constexpr int kGranule = kTiled ? 32 : kPair;
  static constexpr int kStride = kDepth + 16 * kPair;
};

/// Rows of the longest panel.
constexpr int kMaxRows = Panel<bf16>::kRows;

constexpr std::int64_t div_up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }
constexpr std::int64_t round_up(std::int64_t a, std::int64_t b) { return div_up(a, b) * b; }

/// The depth K in equal blocks of at most kDepth; packed depths are whole granules, filled with zeros.
template <class T>
struct DepthBlocks {
  std::int64_t depth, size, count;

  explicit DepthBlocks(std::int64_t k) : depth(k) {
    count = k > 0 ? div_up(k, Panel<T>::kDepth) : 1;
    size = round_up(div_up(k, count), Panel<T>::kGranule);
    if (size > 0) count = div_up(k, size) > 0 ? div_up(k, size) : 1;
  }
  std::int64_t begin(std::int64_t b) const { return b * size; }
  std::int64_t length(std::int64_t b) const { return depth - begin(b) < size ? depth - begin(b) : size; }
  std::int64_t padded(std::int64_t b) const { return round_up(length(b), Panel<T>::kGranule); }
  std::int64_t padded_depth() const { return begin(count - 1) + padded(count - 1); }
};

/// Columns in panels: whole ones, then one of kLanes or kCols.
struct ColumnPanels {
  std::int64_t n;
  std::int64_t count() const { return div_up(n, kCols); }
  std::int64_t width(std::int64_t j) const { return n - j * kCols <= kLanes ? kLanes : kCols; }
  std::int64_t used(std::int64_t j) const { return n - j * kCols < kCols ? n - j * kCols : kCols; }
  std::int64_t padded() const { return n == 0 ? 0 : (count() - 1) * kCols + width(count() - 1); }
};

/// Elements of B's packed form: depth blocks, in each the panels one after the other.
template <class T>
constexpr std::int64_t packed_size(std::int64_t k, std::int64_t n) {
  return DepthBlocks<T>(k).padded_depth() * ColumnPanels{n}.padded();
}
template <class T>
constexpr std::int64_t packed_offset(const DepthBlocks<T>& depth, const ColumnPanels& columns, std::int64_t block,
                                     std::int64_t panel) {
  return depth.begin(block) * columns.padded() + panel * kCols * depth.padded(block);
}

}  // namespace eq::EQ_ISA
