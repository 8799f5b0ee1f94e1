#include "op.h"

#include <algorithm>
#include <cstring>

#include "kernels/isa.h"
#include "runtime/cpu/device.h"

EQ_DECLARE_ISA(void copy_compute(const CopyArgs& a, ThreadPool& pool))

namespace eq::EQ_ISA {

namespace {

/// Walks loops [0, rank) from their flat index `begin` and calls body(x_offset, y_offset) for each step.
template <class Body>
void walk(const Loops& loops, int rank, std::int64_t begin, std::int64_t end, Body body) {
  std::int64_t index[Loops::kMaxRank], x = 0, y = 0, rest = begin;
  for (int d = rank - 1; d >= 0; --d) {
    index[d] = rest % loops.size[d];
    rest /= loops.size[d];
    x += index[d] * loops.step[0][d];
    y += index[d] * loops.step[1][d];
  }
  for (std::int64_t i = begin; i < end; ++i) {
    body(x, y);
    for (int d = rank - 1; d >= 0; --d) {
      x += loops.step[0][d];
      y += loops.step[1][d];
      if (++index[d] < loops.size[d]) break;
      x -= loops.size[d] * loops.step[0][d];
      y -= loops.size[d] * loops.step[1][d];
      index[d] = 0;
    }
  }
}

template <class T>
void copy_row(const T* x, std::int64_t x_step, T* y, std::int64_t y_step, std::int64_t n) {
  if (y_step == 1 && x_step == 1) {
    std::memcpy(y, x, static_cast<std::size_t>(n) * sizeof(T));
  } else if (y_step == 1 && x_step == 0) {
    std::fill_n(y, n, *x);
  } else if (y_step == 1 && x_step == -1) {
    std::reverse_copy(x - (n - 1), x + 1, y);
  } else {
    for (std::int64_t i = 0; i < n; ++i) y[i * y_step] = x[i * x_step];
  }
}

/// Rows along the innermost loop; a long row is cut so that threads can share it.
template <class T>
void copy_rows(const CopyArgs& a, ThreadPool& pool) {
  const Loops& loops = a.loops;
  const int last = loops.rank - 1;
  const auto* x = static_cast<const T*>(a.x);
  auto* y = static_cast<T*>(a.y);
  const std::int64_t n = loops.size[last], xs = loops.step[0][last], ys = loops.step[1][last];
  constexpr std::int64_t kPiece = 1 << 15;
  if (last == 0) {
    pool.parallel_for(n, kPiece, [&](std::int64_t begin, std::int64_t end) {
      copy_row(x + begin * xs, xs, y + begin * ys, ys, end - begin);
    });
    return;
  }
  pool.parallel_for(
      loops.count() / n, std::max<std::int64_t>(1, kPiece / n), [&](std::int64_t begin, std::int64_t end) {
        walk(loops, last, begin, end, [&](std::int64_t p, std::int64_t q) { copy_row(x + p, xs, y + q, ys, n); });
      });
}

/// A square that fits the first-level cache on both sides.
constexpr std::int64_t kTile = 32;

/// y walks loop `last` densely, x walks loop `other` densely: copies squares, so that both sides use whole cache lines.
template <class T>
void transpose_tiles(const CopyArgs& a, int other, ThreadPool& pool) {
  Loops loops = a.loops;  // the remaining loops, then tiles of `other`, then tiles of `last`
  const int last = loops.rank - 1;
  const std::int64_t rows = loops.size[other], cols = loops.size[last];
  const std::int64_t x_row = loops.step[0][other], y_row = loops.step[1][other], x_col = loops.step[0][last],
                     y_col = loops.step[1][last];
  int rank = 0;
  for (int d = 0; d < last; ++d) {
    if (d == other) continue;
    loops.size[rank] = a.loops.size[d];
    for (int k = 0; k < 2; ++k) loops.step[k][rank] = a.loops.step[k][d];
    ++rank;
  }
  const std::int64_t row_tiles = (rows + kTile - 1) / kTile, col_tiles = (cols + kTile - 1) / kTile;
  std::int64_t outer = 1;
  for (int d = 0; d < rank; ++d) outer *= loops.size[d];
  const std::int64_t tiles = row_tiles * col_tiles;
  pool.parallel_for(outer * tiles, std::max<std::int64_t>(1, (1 << 15) / (kTile * kTile)),
                    [&](std::int64_t begin, std::int64_t end) {
                      for (std::int64_t t = begin; t < end;) {
                        const std::int64_t slice = t / tiles, stop = std::min(end, (slice + 1) * tiles);
                        walk(loops, rank, slice, slice + 1, [&](std::int64_t p, std::int64_t q) {
                          for (; t < stop; ++t) {
                            const std::int64_t r0 = t % tiles / col_tiles * kTile, c0 = t % tiles % col_tiles * kTile;
                            const std::int64_t nr = std::min(kTile, rows - r0), nc = std::min(kTile, cols - c0);
                            const T* x = static_cast<const T*>(a.x) + p + r0 * x_row + c0 * x_col;
                            T* y = static_cast<T*>(a.y) + q + r0 * y_row + c0 * y_col;
                            for (std::int64_t r = 0; r < nr; ++r)
                              for (std::int64_t c = 0; c < nc; ++c) y[r * y_row + c * y_col] = x[r * x_row + c * x_col];
                          }
                        });
                      }
                    });
}

template <class T>
void copy(const CopyArgs& a, ThreadPool& pool) {
  const Loops& loops = a.loops;
  const int last = loops.rank - 1;
  if (loops.step[0][last] != 1 && loops.step[1][last] == 1 && loops.size[last] > 4) {
    for (int d = 0; d < last; ++d)
      if (loops.step[0][d] == 1 && loops.size[d] > 4) return transpose_tiles<T>(a, d, pool);
  }
  copy_rows<T>(a, pool);
}

}  // namespace

void copy_compute(const CopyArgs& a, ThreadPool& pool) {
  if (a.element_size == 4)
    copy<std::uint32_t>(a, pool);
  else if (a.element_size == 2)
    copy<std::uint16_t>(a, pool);
  else
    copy<std::uint8_t>(a, pool);
}

}  // namespace eq::EQ_ISA

#if EQ_ISA_BASE
namespace eq {

void copy_launch(Device& device, const OpInfo& info, const CopyArgs& args) {
  cpu(device).launch(info, [args](ThreadPool& pool) { EQ_DISPATCH(copy_compute)(args, pool); });
}

}  // namespace eq
#endif
