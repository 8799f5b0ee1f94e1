// Compares the AMX microkernels with plain sums of small whole numbers, which are exact in any order. Runs in a child
// process (cpu_dispatch.cc): it allocates nothing and an illegal instruction ends the child alone.
#include "micro.h"

#if EQ_AMX && EQ_MATRIX_ONLY
namespace eq::EQ_ISA {

namespace {

constexpr int kCheckDepth = 96;
alignas(64) bf16 a_panel[2 * Panel<bf16>::kRows * Panel<bf16>::kStride], b_panel[kCheckDepth * kCols];
alignas(64) float sums[Panel<bf16>::kRows * kCols];

bool check(int rows, int cols) {
  for (int k = 0; k < kCheckDepth; ++k) {
    for (int i = 0; i < rows; ++i)
      a_panel[i * Panel<bf16>::kStride + k] = bf16(static_cast<float>((i * 7 + k * 3) % 11 - 5));
    for (int j = 0; j < cols; ++j)
      b_panel[(k / 2 * cols + j) * 2 + k % 2] = bf16(static_cast<float>((j * 5 + k * 2) % 13 - 6));
  }
  const auto micro = pick_micro<bf16>(rows, cols == kCols, false);
  micro(kCheckDepth, a_panel, b_panel, sums, kCols, true);
  micro(kCheckDepth, a_panel, b_panel, sums, kCols, false);
  for (int i = 0; i < rows; ++i) {
    for (int j = 0; j < cols; ++j) {
      float expected = 0;
      for (int k = 0; k < kCheckDepth; ++k)
        expected += static_cast<float>((i * 7 + k * 3) % 11 - 5) * static_cast<float>((j * 5 + k * 2) % 13 - 6);
      if (sums[i * kCols + j] != 2 * expected) return false;
    }
  }
  return true;
}

}  // namespace

bool tiles_work() {
  const TileScope tiles;
  return check(32, 32) && check(32, 16) && check(16, 32) && check(16, 16);
}

}  // namespace eq::EQ_ISA
#endif
