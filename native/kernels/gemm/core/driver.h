// The blocked product shared by matmul, linear and the convolutions. A problem says where A, B and C lie:
//
//   using Element                                      float or bf16: what the panels hold
//   static constexpr bool kMajor                       layout of A's panels
//   batches(), rows(), cols()                          products, and the size of each
//   segments(), depth(s)                               the sum over k, in consecutive parts with operands of their own
//   pack_a(s, batch, row, n, k, kc, padded, to)        one panel of n rows
//   pack_b(s, batch, panel, k, kc, padded, to)         one panel of columns
//   packed_b(s, batch)                                 B packed beforehand, or null: then tasks pack it
//   direct(batch, row, col) -> float*                  where sums may accumulate in the output itself, or null
//   row_stride()                                       of that output
//   finish(batch, row, tile)                           stores finished sums
//
// A sum is always taken in the order of k, block by block: results do not depend on the split into tasks.
#pragma once

#include "epilogue.h"
#include "micro.h"
#include "runtime/cpu/thread_pool.h"
#include "scratch.h"

namespace eq::EQ_ISA {

/// How an output is cut into tasks.
struct TaskGrid {
  std::int64_t row_blocks, row_size, col_blocks, col_size;
  std::int64_t per_batch() const { return row_blocks * col_blocks; }
};

/// Tasks of at most 280 x 512 (A block and sums fit a second-level cache of 1 MB), at least four per thread where
/// that leaves blocks worth a task.
template <class T>
static TaskGrid make_grid(std::int64_t batches, std::int64_t m, std::int64_t n, int threads) {
  constexpr std::int64_t kRows = Panel<T>::kTiled ? 16 : Panel<T>::kRows;
  std::int64_t rows = div_up(m, 20 * kRows), cols = div_up(n, 512);
  const auto tasks = [&] { return batches * rows * cols; };
  const auto split = [&](std::int64_t& parts, std::int64_t size, std::int64_t least) {
    while (tasks() < 4 * threads && div_up(size, parts + 1) >= least) ++parts;
  };
  if (n > m) {
    split(cols, n, 4 * kCols);
    split(rows, m, 6 * kRows);
  } else {
    split(rows, m, 6 * kRows);
    split(cols, n, 2 * kCols);
  }
  split(rows, m, 2 * kRows);
  const std::int64_t row_size = round_up(div_up(m, rows), Panel<T>::kRowGranule),
                     col_size = round_up(div_up(n, cols), kCols);
  return {div_up(m, row_size), row_size, div_up(n, col_size), col_size};
}

template <class P>
class Driver {
  using T = typename P::Element;
  static constexpr int kRows = Panel<T>::kRows;
  const P& problem_;
  const TaskGrid grid_;
  const ColumnPanels columns_;

  // One task's part of the output and its working memory.
  struct Task {
    std::int64_t batch, row, rows, col, cols;
    int panel_rows;  // rows per panel of A, balanced
    std::int64_t panels;
    T *a, *b;
    float* sums;  // one tile where k is one block, else all of the task's
    std::int64_t sums_stride;
    bool one_block;
  };

 public:
  Driver(const P& problem, const TaskGrid& grid) : problem_(problem), grid_(grid), columns_{problem.cols()} {}

  void run(ThreadPool& pool) const {
    pool.parallel_for(problem_.batches() * grid_.per_batch(), 1, [this](std::int64_t begin, std::int64_t end) {
      for (std::int64_t t = begin; t < end; ++t) run_task(t);
    });
  }

 private:
  Task make_task(std::int64_t index) const {
    Task t;
    t.batch = index / grid_.per_batch();
    const std::int64_t i = index % grid_.per_batch();
    // Neighbours share columns: B's block stays in the caches.
    t.col = i / grid_.row_blocks * grid_.col_size;
    t.row = i % grid_.row_blocks * grid_.row_size;
    t.rows = problem_.rows() - t.row < grid_.row_size ? problem_.rows() - t.row : grid_.row_size;
    t.cols = problem_.cols() - t.col < grid_.col_size ? problem_.cols() - t.col : grid_.col_size;
    t.panels = div_up(t.rows, kRows);
    t.panel_rows = static_cast<int>(round_up(div_up(t.rows, t.panels), Panel<T>::kRowGranule));
    t.panels = div_up(t.rows, t.panel_rows);
    t.one_block = problem_.segments() == 1 && DepthBlocks<T>(problem_.depth(0)).count == 1;
    t.sums_stride = t.one_block ? kCols : round_up(t.cols, kCols);
    const std::int64_t sums_rows = t.one_block ? kRows : t.panels * kRows;
    const std::int64_t a_size = t.panels * kRows * Panel<T>::kStride, b_size = kCols * Panel<T>::kDepth;
    std::byte* room = gemm_scratch(static_cast<std::size_t>(a_size + b_size) * sizeof(T) +
                                   static_cast<std::size_t>(sums_rows * t.sums_stride) * sizeof(float));
    t.a = reinterpret_cast<T*>(room);
    t.b = t.a + a_size;
    t.sums = reinterpret_cast<float*>(t.b + b_size);
    return t;
  }

  void run_task(std::int64_t index) const {
    const Task t = make_task(index);
    [[maybe_unused]] const TileScope tiles;
    const int segments = problem_.segments();
    for (int s = 0; s < segments; ++s) {
      const DepthBlocks<T> depth(problem_.depth(s));
      for (std::int64_t b = 0; b < depth.count; ++b)
        run_block(t, s, depth, b, s == 0 && b == 0, s == segments - 1 && b == depth.count - 1);
    }
  }

  void run_block(const Task& t, int s, const DepthBlocks<T>& depth, std::int64_t block, bool fresh, bool last) const {
    const std::int64_t k = depth.begin(block), kc = depth.length(block), padded = depth.padded(block);
    for (std::int64_t p = 0; p < t.panels; ++p) {
      const std::int64_t row = p * t.panel_rows;
      problem_.pack_a(s, t.batch, t.row + row, rows_of(t, p), k, kc, padded, t.a + p * kRows * Panel<T>::kStride);
    }
    const T* packed = problem_.packed_b(s, t.batch);
    for (std::int64_t j = t.col / kCols; j < div_up(t.col + t.cols, kCols); ++j) {
      const T* b = t.b;
      if (packed)
        b = packed + packed_offset<T>(depth, columns_, block, j);
      else
        problem_.pack_b(s, t.batch, j, k, kc, padded, t.b);
      run_panel(t, j, b, padded, fresh, last);
    }
  }

  static int rows_of(const Task& t, std::int64_t panel) {
    const std::int64_t left = t.rows - panel * t.panel_rows;
    return left < t.panel_rows ? static_cast<int>(left) : t.panel_rows;
  }

  /// All panels of A against one panel of B.
  void run_panel(const Task& t, std::int64_t j, const T* b, std::int64_t padded, bool fresh, bool last) const {
    const std::int64_t used = columns_.used(j), width = columns_.width(j), col = j * kCols;
    for (std::int64_t p = 0; p < t.panels; ++p) {
      const int rows = rows_of(t, p);
      const std::int64_t row = t.row + p * t.panel_rows;
      float* c = used == width && rows % Panel<T>::kRowGranule == 0 ? problem_.direct(t.batch, row, col) : nullptr;
      std::int64_t stride = problem_.row_stride();
      if (!c) {
        c = t.one_block ? t.sums : t.sums + p * kRows * t.sums_stride + (col - t.col);
        stride = t.sums_stride;
      }
      pick_micro<T>(rows, width == kCols, P::kMajor)(padded, t.a + p * kRows * Panel<T>::kStride, b, c, stride, fresh);
      if (last) problem_.finish(t.batch, row, SumTile{c, stride, rows, col, used});
    }
  }
};

/// Packs all of B for problems with packed B: one unit per panel and block of depth. `to` as packed_b would return.
template <class P, class T = typename P::Element>
static void pack_all(const P& problem, int s, std::int64_t matrices, T* to, ThreadPool& pool) {
  const DepthBlocks<T> depth(problem.depth(s));
  const ColumnPanels columns{problem.cols()};
  const std::int64_t units = depth.count * columns.count(), size = packed_size<T>(problem.depth(s), problem.cols());
  pool.parallel_for(matrices * units, 4, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t u = begin; u < end; ++u) {
      const std::int64_t matrix = u / units, block = u % units / columns.count(), panel = u % columns.count();
      problem.pack_b_matrix(s, matrix, panel, depth.begin(block), depth.length(block), depth.padded(block),
                            to + matrix * size + packed_offset<T>(depth, columns, block, panel));
    }
  });
}

}  // namespace eq::EQ_ISA
