// The CPU device's in-order queue: one thread runs launches in the order they were queued.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include "runtime/profiler.h"

namespace eq {

class CpuQueue {
 public:
  explicit CpuQueue(Profiler& profiler);
  ~CpuQueue();
  CpuQueue(const CpuQueue&) = delete;
  CpuQueue& operator=(const CpuQueue&) = delete;

  /// Appends a launch and returns its position (1, 2, ...). An exception thrown by `body` becomes the
  /// pending fault unless one is pending already.
  std::uint64_t enqueue(const OpInfo& info, std::function<void()> body);
  std::uint64_t submitted() const { return submitted_.load(std::memory_order_acquire); }
  std::uint64_t completed() const { return completed_.load(std::memory_order_acquire); }
  void wait_for(std::uint64_t position);
  /// Returns and clears the pending fault; empty if none.
  std::string take_fault();

 private:
  struct Task {
    OpInfo info;
    std::function<void()> body;
  };
  void loop();
  void execute(Task& task);

  Profiler& profiler_;
  std::mutex mutex_;
  std::condition_variable work_, done_;
  std::deque<Task> tasks_;
  bool stop_ = false;
  std::atomic<std::uint64_t> submitted_{0}, completed_{0};
  std::mutex fault_mutex_;
  std::string fault_;
  std::thread thread_;
};

}  // namespace eq
