// Hopper's instructions, from the thread that issues them to its block (async.h).
#include "simt/hopper.h"

#include "simt/scheduler.h"

namespace eq::simt {

namespace {

Async& async() { return running().block().async; }

/// An instruction that all threads of a warp issue together: `act` runs when the last of them has come, and none goes
/// on before.
template <class Act>
void together(const WarpStep& step, float* sums, Act act) {
  Scheduler& s = running();
  WarpMeeting& meeting = async().meeting(s.thread() / 32);
  if (meeting.arrived == 0)
    meeting.step = step;
  else if (!(meeting.step == step))
    s.fail("issues another instruction than the rest of its warp");
  meeting.sums[s.thread() % 32] = sums;
  if (++meeting.arrived == 32) {
    meeting.arrived = 0;
    act(s.thread() / 32, meeting);
  }
  unsigned present = 0;
  s.exchange(0xffffffffu, 0, -1, &present, nullptr);
  if (present != 0xffffffffu) s.fail("issues an instruction of whole warps in a warp whose threads have ended in part");
}

}  // namespace

// Races are told with the place in the kernel that calls a function of this file.
#define EQ_PLACE races.at(__builtin_return_address(0))

std::uint32_t shared_address(const void* p) {
  Scheduler& s = running();
  const auto* at = static_cast<const std::byte*>(p);
  if (at < s.shared() || at > s.block().window + kWindow)
    s.fail("takes the shared address of what is not in dynamic shared memory: not emulated");
  return static_cast<std::uint32_t>(at - s.block().window);
}

void mbarrier_init(std::uint32_t barrier, unsigned count) {
  EQ_PLACE;
  async().barrier_init(barrier, count);
}
void mbarrier_init_fence() { async().barrier_init_fence(); }
void mbarrier_arrive(std::uint32_t barrier) {
  EQ_PLACE;
  async().barrier_arrive(barrier, 0);
}
void mbarrier_arrive_expecting(std::uint32_t barrier, unsigned bytes) {
  EQ_PLACE;
  async().barrier_arrive(barrier, bytes);
}
void mbarrier_wait(std::uint32_t barrier, unsigned parity) {
  struct Phase {
    Async& async;
    std::uint32_t barrier;
    unsigned parity;
  } phase{async(), barrier, parity};
  const auto over = [](void* p) {
    const auto& at = *static_cast<const Phase*>(p);
    return at.async.phase_over(at.barrier, at.parity);
  };
  if (!over(&phase)) {
    ++phase.async.waiting(barrier);
    running().wait_until({over, &phase, "the phase of an mbarrier"});
    --phase.async.waiting(barrier);
  }
  EQ_PLACE;
  phase.async.passed(barrier);
}

void copy_tile(std::uint32_t to, const CUtensorMap* map, std::uint32_t barrier, int rank, const int* at) {
  EQ_PLACE;
  async().copy(to, read_map(map, rank), barrier, at);
}
void fence_proxy() { async().fence_proxy(); }

void products_fence() {
  together({WarpStep::Fence}, nullptr, [](unsigned warp, WarpMeeting&) { async().fence_products(warp); });
}
void products_commit() {
  together({WarpStep::Commit}, nullptr, [](unsigned warp, WarpMeeting&) { async().commit(warp); });
}
void products_wait(int pending) {
  together({WarpStep::Wait, 0, 0, pending}, nullptr, [=](unsigned warp, WarpMeeting&) { async().wait(warp, pending); });
}
void product(float* sums, int n, std::uint64_t a, std::uint64_t b, bool transposed_b) {
  EQ_PLACE;
  together({transposed_b ? WarpStep::TransposedProduct : WarpStep::Product, a, b, n}, sums,
           [=](unsigned warp, WarpMeeting& meeting) { async().product(warp, meeting.sums, n, a, b, transposed_b); });
}

}  // namespace eq::simt
