// Tensor-core instructions lane by lane, the lanes exchanging their registers through memory, and asynchronous copies.
// Two properties of the hardware are kept on purpose, so that tests meet them: sums are cut, not rounded, to f32, and
// an asynchronous copy happens no sooner than it is waited for.
#include "simt/warp_mma.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "runtime/dtype.h"
#include "simt/races.h"
#include "simt/round.h"
#include "simt/scheduler.h"

namespace eq::simt {

namespace {

/// What the lanes of a warp show each other. Two buffers: a lane that is one instruction ahead writes the other one.
struct Registers {
  std::uint64_t run;
  std::uint64_t words[2][32][6];
  unsigned turn[32];
};
Registers& registers() {
  static Registers warps[kSlots / 32] = {};
  Registers& mine = warps[slot() / 32];
  if (std::exchange(mine.run, run_number()) != run_number()) std::fill(std::begin(mine.turn), std::end(mine.turn), 0u);
  return mine;
}

struct Copy {
  void* to;
  const void* from;
  int bytes;
  Races::Copy order;
};
/// Copies of one thread that have not been waited for: closed groups and the open one (the last).
struct Pending {
  std::uint64_t run = 0;  ///< what an earlier block left is dropped
  std::vector<std::vector<Copy>> groups;
};
std::vector<std::vector<Copy>>& pending() {
  static Pending threads[kSlots];
  Pending& mine = threads[slot()];
  if (mine.run != run_number() || mine.groups.empty()) {
    mine.run = run_number();
    mine.groups.assign(1, {});
  }
  return mine.groups;
}

/// Such instructions wait for the warp, and order nothing.
void meet_warp() { running().exchange(0xffffffffu, 0, -1, nullptr, nullptr); }

float half_of(std::uint64_t word, int half) {
  bf16 value;
  value.bits = static_cast<std::uint16_t>(word >> (16 * half));
  return static_cast<float>(value);
}

}  // namespace

void copy_async(void* to, const void* from, int bytes) {
  races.at(__builtin_return_address(0));
  if (bytes > 0) races.access(from, static_cast<std::size_t>(bytes), Access::Load);
  pending().back().push_back({to, from, bytes, races.copy_begins(to, 16)});
}
void copy_commit() { pending().emplace_back(); }
void copy_wait(int pending_groups) {
  auto& groups = pending();
  const std::size_t closed = groups.size() - 1, left = static_cast<std::size_t>(pending_groups);
  const std::size_t done = closed > left ? closed - left : 0;
  for (std::size_t i = 0; i < done; ++i)
    for (const Copy& copy : groups[i]) {
      if (copy.bytes > 0) std::memcpy(copy.to, copy.from, static_cast<std::size_t>(copy.bytes));
      std::memset(static_cast<char*>(copy.to) + copy.bytes, 0, static_cast<std::size_t>(16 - copy.bytes));
      races.copy_ends(copy.order, copy.to, 16, true);
    }
  groups.erase(groups.begin(), groups.begin() + static_cast<std::ptrdiff_t>(done));
}

void load_matrices(std::uint32_t (&r)[4], const void* row, bool transposed) {
  races.access(row, 16, Access::Load, __builtin_return_address(0));
  Registers& warp = registers();
  const unsigned lane = threadIdx.x % 32, turn = warp.turn[lane]++ % 2;
  warp.words[turn][lane][0] = reinterpret_cast<std::uintptr_t>(row);
  meet_warp();
  const auto element = [&](unsigned matrix, unsigned i, unsigned j) -> std::uint32_t {
    return reinterpret_cast<const std::uint16_t*>(warp.words[turn][matrix * 8 + i][0])[j];
  };
  const unsigned g = lane / 4, t = lane % 4;
  for (unsigned m = 0; m < 4; ++m)
    r[m] = transposed ? element(m, 2 * t, g) | element(m, 2 * t + 1, g) << 16
                      : element(m, g, 2 * t) | element(m, g, 2 * t + 1) << 16;
}

void mma_bf16(float (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1) {
  Registers& warp = registers();
  const unsigned lane = threadIdx.x % 32, turn = warp.turn[lane]++ % 2;
  std::uint64_t(&mine)[6] = warp.words[turn][lane];
  for (int i = 0; i < 4; ++i) mine[i] = a[i];
  mine[4] = b0;
  mine[5] = b1;
  meet_warp();
  const unsigned g = lane / 4, t = lane % 4;
  for (unsigned i = 0; i < 4; ++i) {
    const unsigned row = g + i / 2 * 8, column = 2 * t + i % 2;
    double sum = static_cast<double>(c[i]);
    for (unsigned k = 0; k < 16; ++k) {
      const unsigned from = k % 8 / 2;
      const float x = half_of(warp.words[turn][row % 8 * 4 + from][row / 8 + k / 8 * 2], k % 2);
      const float y = half_of(warp.words[turn][column * 4 + from][4 + k / 8], k % 2);
      sum += static_cast<double>(x) * static_cast<double>(y);
    }
    c[i] = cut(sum);
  }
}

}  // namespace eq::simt
