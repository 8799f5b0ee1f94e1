// Runs the threads of a block as fibers. A thread runs until it returns or waits; whoever can go on is resumed, warp
// after warp. A fiber is taken from a pool when its thread starts and given back when it returns, so that kernels
// without barriers need one.
#include <csetjmp>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <vector>

#include <sys/mman.h>
#include <unistd.h>

#include "runtime/cuda/kernel.cuh"
#include "simt/context.h"
#include "simt/device.h"

namespace eq::simt {

namespace {

constexpr std::size_t kStack = std::size_t{128} << 10;
constexpr unsigned kMaxThreads = 1024;
/// What every supported GPU gives one block (sm_80: 164 KiB less 1 KiB for the system).
constexpr std::size_t kMaxShared = std::size_t{163} << 10;

enum class State : std::uint8_t { Fresh, Ready, AtBarrier, AtExchange, Done };

struct Thread {
  State state = State::Fresh;
  Fiber* fiber = nullptr;
  uint3 index;
};

/// A set of lanes that exchange values. Two generations of slots: a lane may deposit the next value while others
/// still read the last.
struct Group {
  unsigned mask = 0, arrived = 0;
  unsigned generation = 0;
  unsigned present[2] = {};
  std::uint64_t slot[2][32];
};

struct Warp {
  std::vector<Group> groups;
  unsigned done = 0;  ///< lanes that have returned, or lie past the end of the block
};

class Scheduler {
 public:
  void run(const Launch& launch, void (*body)(void*), void* context);
  void yield(State state);
  std::uint64_t exchange(unsigned mask, std::uint64_t value, int source, unsigned* present,
                         const std::uint64_t** everyone);
  int barrier(int predicate);
  int lane() const { return static_cast<int>(current_ % 32); }
  void* shared() const { return shared_; }
  [[noreturn]] void fail(std::string what);
  /// Where the running thread is.
  std::string where() const;
  void trampoline();
  std::string op;  ///< of the launch, for errors

 private:
  void run_block();
  bool step(unsigned t);
  bool run_warp(unsigned w);
  void release(Warp& warp, Group& group);
  bool release_barrier();
  Fiber* take_fiber();
  void give_back(Fiber* fiber);

  Fiber main_;
  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::vector<Fiber*> idle_;
  std::vector<Thread> threads_;
  std::vector<Warp> warps_;
  unsigned count_ = 0, current_ = 0;
  bool backwards_ = false;
  int votes_ = 0, counted_ = 0;
  void (*body_)(void*) = nullptr;
  void* context_ = nullptr;
  void* shared_ = nullptr;
  std::size_t shared_bytes_ = 0;
  std::string failure_;
};

Scheduler* active = nullptr;
std::mutex launches;

void enter() { active->trampoline(); }

/// Dynamic shared memory that ends at an inaccessible page.
std::byte* shared_end() {
  static std::byte* end = [] {
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    const std::size_t size = (kMaxShared + page - 1) / page * page;
    void* p = mmap(nullptr, size + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) throw RangeError("simt: no memory for a block's shared memory");
    auto* last = static_cast<std::byte*>(p) + size;
    mprotect(last, page, PROT_NONE);
    return last;
  }();
  return end;
}

Fiber* Scheduler::take_fiber() {
  if (idle_.empty()) {
    fibers_.push_back(std::make_unique<Fiber>());
    fibers_.back()->allocate(kStack);
    idle_.push_back(fibers_.back().get());
  }
  Fiber* fiber = idle_.back();
  idle_.pop_back();
  fiber->start(enter);
  return fiber;
}

void Scheduler::give_back(Fiber* fiber) { idle_.push_back(fiber); }

std::string Scheduler::where() const {
  const uint3 t = threads_[current_].index;
  return concat(op, ": block (", blockIdx.x, ",", blockIdx.y, ",", blockIdx.z, "), thread (", t.x, ",", t.y, ",", t.z,
                ")");
}

/// Body of every fiber.
void Scheduler::trampoline() {
  body_(context_);
  Thread& thread = threads_[current_];
  thread.state = State::Done;
  Warp& warp = warps_[current_ / 32];
  warp.done |= 1u << (current_ % 32);
  for (Group& group : warp.groups) release(warp, group);
  switch_fiber(*thread.fiber, main_);
  std::abort();  // a returned thread is never resumed
}

void Scheduler::yield(State state) {
  const unsigned self = current_;
  Thread& thread = threads_[self];
  thread.state = state;
  switch_fiber(*thread.fiber, main_);
  current_ = self;
  threadIdx = thread.index;
  if (!failure_.empty()) {
    // The launch is over; this stack is simply dropped.
    switch_fiber(*thread.fiber, main_);
  }
}

/// Throws from the main context: a fiber's stack has no handler.
void Scheduler::fail(std::string what) {
  failure_ = where() + " " + std::move(what);
  Thread& thread = threads_[current_];
  switch_fiber(*thread.fiber, main_);
  std::abort();
}

void Scheduler::release(Warp& warp, Group& group) {
  if (group.arrived == 0 || ((group.arrived | warp.done) & group.mask) != group.mask) return;
  group.present[group.generation % 2] = group.arrived;
  group.arrived = 0;
  ++group.generation;
  const auto base = static_cast<unsigned>(&warp - warps_.data()) * 32;
  for (unsigned i = 0; i < 32; ++i)
    if (group.mask >> i & 1u && base + i < count_ && threads_[base + i].state == State::AtExchange)
      threads_[base + i].state = State::Ready;
}

std::uint64_t Scheduler::exchange(unsigned mask, std::uint64_t value, int source, unsigned* present,
                                  const std::uint64_t** everyone) {
  Warp& warp = warps_[current_ / 32];
  const auto lane = static_cast<unsigned>(current_ % 32);
  if (!(mask >> lane & 1u)) fail(concat("(lane ", lane, ") is not in the mask ", mask, " of its exchange"));
  std::size_t at = 0;
  while (at < warp.groups.size() && warp.groups[at].mask != mask) ++at;
  if (at == warp.groups.size()) warp.groups.emplace_back().mask = mask;
  const unsigned parity = warp.groups[at].generation % 2;
  warp.groups[at].slot[parity][lane] = value;
  warp.groups[at].arrived |= 1u << lane;
  const unsigned before = warp.groups[at].generation;
  release(warp, warp.groups[at]);
  // A thread that returns in between may add groups: the index stays, a reference would not.
  if (warp.groups[at].generation == before) yield(State::AtExchange);
  const Group& group = warps_[current_ / 32].groups[at];
  if (present) *present = group.present[parity];
  if (everyone) *everyone = group.slot[parity];
  if (source < 0) return 0;
  return group.present[parity] >> (source & 31) & 1u ? group.slot[parity][source & 31] : ~std::uint64_t{0};
}

int Scheduler::barrier(int predicate) {
  votes_ += predicate;
  yield(State::AtBarrier);
  return counted_;
}

/// Lets the block go on when everyone who has not returned waits.
bool Scheduler::release_barrier() {
  bool any = false;
  for (unsigned t = 0; t < count_; ++t) {
    if (threads_[t].state == State::Done) continue;
    if (threads_[t].state != State::AtBarrier) return false;
    any = true;
  }
  if (!any) return false;
  counted_ = std::exchange(votes_, 0);
  for (unsigned t = 0; t < count_; ++t)
    if (threads_[t].state == State::AtBarrier) threads_[t].state = State::Ready;
  return true;
}

/// Resumes or starts a thread that can run.
bool Scheduler::step(unsigned t) {
  Thread& thread = threads_[t];
  if (thread.state != State::Fresh && thread.state != State::Ready) return false;
  if (thread.state == State::Fresh) thread.fiber = take_fiber();
  thread.state = State::Ready;
  current_ = t;
  threadIdx = thread.index;
  switch_fiber(main_, *thread.fiber);
  if (!failure_.empty()) throw std::runtime_error(failure_);
  if (thread.state == State::Done) give_back(std::exchange(thread.fiber, nullptr));
  return true;
}

bool Scheduler::run_warp(unsigned w) {
  const unsigned begin = w * 32, end = std::min(count_, begin + 32);
  bool progress = false;
  for (bool again = true; again;) {
    again = false;
    for (unsigned i = begin; i < end; ++i) again |= step(backwards_ ? end - 1 - (i - begin) : i);
    progress |= again;
  }
  return progress;
}

void Scheduler::run_block() {
  for (unsigned t = 0; t < count_; ++t) {
    threads_[t].state = State::Fresh;
    threads_[t].index = {t % blockDim.x, t / blockDim.x % blockDim.y, t / (blockDim.x * blockDim.y)};
  }
  for (unsigned w = 0; w < warps_.size(); ++w) {
    warps_[w].groups.clear();
    const unsigned lanes = std::min(32u, count_ - w * 32);
    warps_[w].done = lanes == 32 ? 0u : ~((1u << lanes) - 1u);
  }
  votes_ = 0;
  std::memset(shared_, 0xff, shared_bytes_);
  for (bool progress = true; progress;) {
    progress = false;
    for (unsigned i = 0; i < warps_.size(); ++i)
      progress |= run_warp(backwards_ ? static_cast<unsigned>(warps_.size()) - 1 - i : i);
    progress |= release_barrier();
  }
  for (unsigned t = 0; t < count_; ++t)
    if (threads_[t].state != State::Done) {
      current_ = t;
      const char* what = threads_[t].state == State::AtBarrier ? " waits for ever at __syncthreads"
                                                               : " waits for ever at a warp's exchange";
      throw std::runtime_error(where() + what);
    }
}

void Scheduler::run(const Launch& launch, void (*body)(void*), void* context) {
  count_ = launch.block;
  check_range(count_ >= 1 && count_ <= kMaxThreads, op, ": ", count_, " threads in a block");
  check_range(launch.shared <= kMaxShared, op, ": ", launch.shared, " bytes of shared memory");
  check_range(launch.grid_x <= 0x7fffffffu && launch.grid_y <= 65535 && launch.grid_z <= 65535, op, ": a grid of ",
              launch.grid_x, " x ", launch.grid_y, " x ", launch.grid_z);
  body_ = body;
  context_ = context;
  failure_.clear();
  gridDim = {launch.grid_x, launch.grid_y, launch.grid_z};
  blockDim = {launch.block, 1, 1};
  threads_.assign(count_, {});
  warps_.assign((count_ + 31) / 32, {});
  shared_bytes_ = (launch.shared + 127) / 128 * 128;
  shared_ = shared_end() - shared_bytes_;
  idle_.clear();  // a failed launch leaves fibers behind
  for (auto& fiber : fibers_) idle_.push_back(fiber.get());
  const std::uint64_t blocks = std::uint64_t{launch.grid_x} * launch.grid_y * launch.grid_z;
  for (std::uint64_t i = 0; i < blocks; ++i) {
    const std::uint64_t b = backwards_ ? blocks - 1 - i : i;
    blockIdx = {static_cast<unsigned>(b % launch.grid_x), static_cast<unsigned>(b / launch.grid_x % launch.grid_y),
                static_cast<unsigned>(b / launch.grid_x / launch.grid_y)};
    run_block();
  }
  backwards_ = !backwards_;
}

// An access outside all memory ends the launch with an error that says where.

sigjmp_buf escape;
std::uintptr_t fault_address;

void on_fault(int, siginfo_t* info, void*) {
  fault_address = reinterpret_cast<std::uintptr_t>(info->si_addr);
  siglongjmp(escape, 1);
}

class FaultGuard {
 public:
  FaultGuard() {
    static char* stack = static_cast<char*>(std::malloc(kHandlerStack));
    stack_t alternative{};
    alternative.ss_sp = stack;
    alternative.ss_size = kHandlerStack;
    sigaltstack(&alternative, &old_stack_);
    struct sigaction action{};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    sigaction(SIGSEGV, &action, &old_segv_);
    sigaction(SIGBUS, &action, &old_bus_);
  }
  ~FaultGuard() {
    sigaction(SIGSEGV, &old_segv_, nullptr);
    sigaction(SIGBUS, &old_bus_, nullptr);
    sigaltstack(&old_stack_, nullptr);
  }

 private:
  static constexpr std::size_t kHandlerStack = 1 << 16;
  stack_t old_stack_{};
  struct sigaction old_segv_{}, old_bus_{};
};

Scheduler& scheduler() {
  static Scheduler* one = new Scheduler;
  return *one;
}

}  // namespace

namespace {

void run(SimtDevice& device, const OpInfo& info, const Launch& launch, void (*thread)(void*), void* context) {
  std::lock_guard lock(launches);
  Scheduler& s = scheduler();
  active = &s;
  s.op = info.describe();
  FaultGuard guard;
  if (sigsetjmp(escape, 1) == 0) {
    s.run(launch, thread, context);
  } else {
    throw std::runtime_error(concat(s.where(), " accessed ", device.describe_address(fault_address)));
  }
}

}  // namespace

void launch(Device& device, const OpInfo& info, const Launch& launch, void (*thread)(void*),
            std::shared_ptr<void> context) {
  if (launch.grid_x == 0 || launch.grid_y == 0 || launch.grid_z == 0) return;
  SimtDevice& own = simt_device(device);
  own.queue([=, &own] { run(own, info, launch, thread, context.get()); });
}

void* dynamic_shared_memory() { return active->shared(); }
int lane() { return active->lane(); }
int block_barrier(int predicate) { return active->barrier(predicate); }
std::uint64_t exchange(unsigned mask, std::uint64_t value, int source, unsigned* present,
                       const std::uint64_t** everyone) {
  return active->exchange(mask, value, source, present, everyone);
}
void fail(const char* what) { active->fail(what); }

}  // namespace eq::simt
