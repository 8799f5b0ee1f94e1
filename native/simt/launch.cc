// Launches, and what kernels ask the scheduler for (simt.h).
#include <csetjmp>
#include <csignal>
#include <cstdlib>
#include <mutex>

#include "simt/races.h"
#include "simt/scheduler.h"

namespace eq::simt {

namespace {

Scheduler* active = nullptr;
std::mutex launches;

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

Scheduler& running() { return *active; }

void run_launch(const std::string& op, const Launch& launch, std::size_t most_shared, void (*thread)(void*),
                void* context, const GlobalMemory& memory) {
  std::lock_guard lock(launches);
  Scheduler& s = scheduler();
  active = &s;
  s.op = op;
  FaultGuard guard;
  if (sigsetjmp(escape, 1) == 0) {
    s.run(memory, launch, most_shared, thread, context);
  } else {
    races.leave();
    throw std::runtime_error(concat(s.where(), " accessed ", memory.describe(fault_address)));
  }
}

void warp_barrier(unsigned mask) { active->warp_barrier(mask); }
void fence() { races.fence(); }
void atomic_access(void* at, std::size_t bytes, const void* place) { races.atomic(at, bytes, place); }
void* dynamic_shared_memory() { return active->shared(); }
int lane() { return static_cast<int>(active->thread() % 32); }
unsigned slot() { return active->slot(); }
std::uint64_t run_number() { return active->run_number(); }
void named_barrier(unsigned index, unsigned threads) { active->named_barrier(index, threads); }
void cluster_barrier(unsigned blocks) { active->cluster_barrier(blocks); }
const void* in_cluster(const void* shared, unsigned blocks, unsigned rank) {
  return active->in_cluster(shared, blocks, rank);
}
int block_barrier(int predicate) { return active->barrier(predicate); }
std::uint64_t exchange(unsigned mask, std::uint64_t value, int source, unsigned* present,
                       const std::uint64_t** everyone) {
  return active->exchange(mask, value, source, present, everyone);
}
void fail(const char* what) { active->fail(what); }

}  // namespace eq::simt
