// Fork-join pool of the CPU device. The caller takes part in the work. Chunks are handed out dynamically,
// so a kernel must compute each output from its index alone: then results do not depend on the thread
// count or on timing. Reductions split into a fixed number of parts for the same reason.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace eq {

class ThreadPool {
 public:
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return static_cast<int>(workers_.size()) + 1; }

  /// Calls f(begin, end) over [0, n) in pieces of at least `grain`. f must not throw, and must not call
  /// parallel_for on the same pool.
  template <class F>
  void parallel_for(std::int64_t n, std::int64_t grain, F&& f) {
    if (n <= 0) return;
    if (workers_.empty() || n <= grain) {
      f(std::int64_t{0}, n);
      return;
    }
    run(
        n, grain,
        [](void* ctx, std::int64_t b, std::int64_t e) { (*static_cast<std::remove_reference_t<F>*>(ctx))(b, e); },
        const_cast<void*>(static_cast<const void*>(&f)));
  }

  /// The processors this process may use (its affinity mask), or EQUIPOISE_THREADS when set.
  static int default_threads();

 private:
  using Body = void (*)(void*, std::int64_t, std::int64_t);
  struct Job {
    Body body;
    void* context;
    std::int64_t n, chunk;
    std::atomic<std::int64_t> next{0};
  };
  void run(std::int64_t n, std::int64_t grain, Body body, void* context);
  static void work(Job& job);
  void worker();

  std::vector<std::thread> workers_;
  std::mutex region_;
  // A worker takes part only if it comes in time: it enters through the gate while the job is open, and the caller
  // waits only for those who entered. A worker that the system does not schedule therefore holds nobody up.
  // The gate holds the job's generation, whether it is open, and how many workers are inside.
  static constexpr std::uint32_t kInside = 0x3ff, kOpen = 0x400, kGeneration = ~(kInside | kOpen);
  bool enter(std::uint32_t generation);
  void leave();

  Job job_{};
  std::atomic<std::uint32_t> generation_{0};  ///< what idle workers sleep on; counts in steps of kInside + kOpen + 1
  std::atomic<std::uint32_t> gate_{0};
  std::atomic<bool> stop_{false};
};

}  // namespace eq
