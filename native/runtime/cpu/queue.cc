#include "queue.h"

#include <exception>

namespace eq {

CpuQueue::CpuQueue(Profiler& profiler) : profiler_(profiler), thread_([this] { loop(); }) {}

CpuQueue::~CpuQueue() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  work_.notify_all();
  thread_.join();
}

std::uint64_t CpuQueue::enqueue(const OpInfo& info, std::function<void()> body) {
  std::uint64_t position;
  {
    std::lock_guard lock(mutex_);
    tasks_.push_back({info, std::move(body)});
    position = submitted_.fetch_add(1, std::memory_order_acq_rel) + 1;
  }
  work_.notify_one();
  return position;
}

void CpuQueue::wait_for(std::uint64_t position) {
  if (completed() >= position) return;
  std::unique_lock lock(mutex_);
  done_.wait(lock, [&] { return completed() >= position; });
}

std::string CpuQueue::take_fault() {
  std::lock_guard lock(fault_mutex_);
  return std::exchange(fault_, {});
}

void CpuQueue::execute(Task& task) {
  const bool profiling = profiler_.enabled();
  const std::int64_t start = profiling ? Profiler::now_ns() : 0;
  try {
    task.body();
  } catch (const std::exception& e) {
    std::lock_guard lock(fault_mutex_);
    if (fault_.empty()) fault_ = task.info.describe() + ": " + e.what();
  }
  if (profiling) profiler_.record(task.info, start, Profiler::now_ns());
}

void CpuQueue::loop() {
  std::deque<Task> batch;
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      work_.wait(lock, [&] { return stop_ || !tasks_.empty(); });
      if (tasks_.empty()) return;  // stopping, and everything queued has run
      batch.swap(tasks_);
    }
    for (; !batch.empty(); batch.pop_front()) {
      execute(batch.front());
      {
        // Under the lock, or a waiter could miss the last notification.
        std::lock_guard lock(mutex_);
        completed_.fetch_add(1, std::memory_order_acq_rel);
      }
      done_.notify_all();
    }
  }
}

}  // namespace eq
