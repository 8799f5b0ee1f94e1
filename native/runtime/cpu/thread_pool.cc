#include "thread_pool.h"

#include <algorithm>
#include <cstdlib>
#if defined(__linux__)
#include <sched.h>
#endif

namespace eq {

namespace {
inline void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}
// About 20 us: long enough to bridge the gap between two kernels, short enough not to burn an idle core.
constexpr int kSpins = 1000;
// Generations count above the gate's other bits.
constexpr std::uint32_t kStep = 0x800;
}  // namespace

int ThreadPool::default_threads() {
  if (const char* env = std::getenv("EQUIPOISE_THREADS")) {
    const int n = std::atoi(env);
    if (n >= 1) return std::min(n, 256);
  }
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
#endif
  return std::max(1u, std::thread::hardware_concurrency());
}

ThreadPool::ThreadPool(int threads) {
  threads = std::min(threads, static_cast<int>(kInside));
  for (int i = 1; i < threads; ++i) workers_.emplace_back([this] { worker(); });
}

ThreadPool::~ThreadPool() {
  stop_.store(true);
  generation_.fetch_add(kStep, std::memory_order_release);
  generation_.notify_all();
  for (auto& w : workers_) w.join();
}

void ThreadPool::work(Job& job) {
  for (;;) {
    const std::int64_t begin = job.next.fetch_add(job.chunk, std::memory_order_relaxed);
    if (begin >= job.n) return;
    job.body(job.context, begin, std::min(job.n, begin + job.chunk));
  }
}

void ThreadPool::run(std::int64_t n, std::int64_t grain, Body body, void* context) {
  std::lock_guard lock(region_);  // several devices may share the pool
  // Four chunks per thread even out threads that are preempted.
  const std::int64_t chunk =
      std::max<std::int64_t>(std::max<std::int64_t>(grain, 1), (n + size() * 4 - 1) / (size() * 4));
  job_.body = body;
  job_.context = context;
  job_.n = n;
  job_.chunk = chunk;
  job_.next.store(0, std::memory_order_relaxed);
  const std::uint32_t generation = generation_.load(std::memory_order_relaxed) + kStep;
  gate_.store(generation | kOpen, std::memory_order_release);
  generation_.store(generation, std::memory_order_release);
  generation_.notify_all();
  work(job_);
  // Every chunk is handed out; close the gate and wait for those who are still working on theirs.
  std::uint32_t inside = gate_.fetch_and(~kOpen, std::memory_order_acq_rel) & ~kOpen;
  for (int spins = 0; inside & kInside; ++spins) {
    if (spins < kSpins)
      relax();
    else
      gate_.wait(inside, std::memory_order_acquire);
    inside = gate_.load(std::memory_order_acquire);
  }
}

bool ThreadPool::enter(std::uint32_t generation) {
  std::uint32_t gate = gate_.load(std::memory_order_acquire);
  while ((gate & kOpen) && (gate & kGeneration) == generation)
    if (gate_.compare_exchange_weak(gate, gate + 1, std::memory_order_acq_rel, std::memory_order_acquire)) return true;
  return false;
}

void ThreadPool::leave() {
  const std::uint32_t before = gate_.fetch_sub(1, std::memory_order_acq_rel);
  if ((before & kInside) == 1 && !(before & kOpen)) gate_.notify_one();
}

void ThreadPool::worker() {
  std::uint32_t seen = 0;
  for (;;) {
    std::uint32_t generation;
    for (int spins = 0; (generation = generation_.load(std::memory_order_acquire)) == seen; ++spins) {
      if (spins < kSpins)
        relax();
      else
        generation_.wait(seen, std::memory_order_acquire);
    }
    seen = generation;
    if (stop_.load()) return;
    if (!enter(generation)) continue;
    work(job_);
    leave();
  }
}

}  // namespace eq
