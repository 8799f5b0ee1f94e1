// Loop nests over dense outputs and strided operands, shared by the launchers of both devices.
#pragma once

#include <cstdint>

#include "runtime/shape.h"

namespace eq {

/// Sizes of a loop nest, outermost first, and for each operand its step in elements along each loop.
struct Loops {
  /// Twice the rank of a tensor: tiling splits every dimension in two.
  static constexpr int kMaxRank = 2 * Shape::kMaxRank;
  static constexpr int kMaxOperands = 3;

  int rank = 0;
  int operands = 0;
  std::int64_t size[kMaxRank] = {};
  std::int64_t step[kMaxOperands][kMaxRank] = {};

  std::int64_t count() const {
    std::int64_t n = 1;
    for (int d = 0; d < rank; ++d) n *= size[d];
    return n;
  }

  /// Drops loops of one iteration and merges neighbours that every operand walks as one. Keeps at least one loop.
  void collapse() {
    int kept = 0;
    for (int d = 0; d < rank; ++d) {
      if (size[d] == 1) continue;
      if (kept > 0 && continues(kept - 1, d)) {
        size[kept - 1] *= size[d];
        for (int k = 0; k < operands; ++k) step[k][kept - 1] = step[k][d];
        continue;
      }
      size[kept] = size[d];
      for (int k = 0; k < operands; ++k) step[k][kept] = step[k][d];
      ++kept;
    }
    if (kept == 0) {
      size[0] = 1;
      for (int k = 0; k < operands; ++k) step[k][0] = 1;
      kept = 1;
    }
    rank = kept;
  }

 private:
  bool continues(int outer, int inner) const {
    for (int k = 0; k < operands; ++k)
      if (step[k][outer] != step[k][inner] * size[inner]) return false;
    return true;
  }
};

/// The NumPy broadcast of two shapes; throws a RangeError that names both.
inline Shape broadcast_shape(const char* op, const Shape& a, const Shape& b) {
  const int rank = a.rank() > b.rank() ? a.rank() : b.rank();
  std::int64_t dims[Shape::kMaxRank] = {};
  for (int d = 0; d < rank; ++d) {
    const std::int64_t p = d < rank - a.rank() ? 1 : a[d - (rank - a.rank())];
    const std::int64_t q = d < rank - b.rank() ? 1 : b[d - (rank - b.rank())];
    check_range(p == q || p == 1 || q == 1, op, ": shapes ", a.str(), " and ", b.str(), " do not broadcast");
    dims[d] = p == 1 ? q : p;
  }
  return Shape(dims, rank);
}

/// Adds an operand of shape `s` (dense) to the loops over `out`: broadcast dimensions get step 0.
inline void add_broadcast_operand(Loops& loops, const Shape& out, const Shape& s) {
  loops.rank = out.rank();
  const int k = loops.operands++;
  std::int64_t step = 1;
  for (int d = out.rank() - 1; d >= 0; --d) {
    const int at = d - (out.rank() - s.rank());
    loops.size[d] = out[d];
    loops.step[k][d] = at < 0 || s[at] == 1 ? 0 : step;
    if (at >= 0) step *= s[at];
  }
}

}  // namespace eq
