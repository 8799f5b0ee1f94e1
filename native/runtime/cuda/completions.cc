#include "runtime/cuda/completions.h"

namespace eq {

Completions::Completions(int ordinal, EventPool& events)
    : ordinal_(ordinal), events_(events), thread_([this] { loop(); }) {}

Completions::~Completions() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  work_.notify_all();
  thread_.join();
}

void Completions::push(std::uint64_t position, cudaEvent_t event, Action action) {
  {
    std::lock_guard lock(mutex_);
    items_.push_back({position, event, std::move(action)});
  }
  work_.notify_one();
}

/// Runs the first item without the lock; the item stays in the queue until its action has run.
void Completions::run_front(std::unique_lock<std::mutex>& lock) {
  busy_ = true;
  Item& item = items_.front();  // a deque's elements stay where they are while others are added behind
  lock.unlock();
  item.action(cudaEventSynchronize(item.event));
  events_.give_back(item.event);
  lock.lock();
  items_.pop_front();
  busy_ = false;
  done_.notify_all();
  work_.notify_one();
}

void Completions::drain(std::uint64_t position) {
  std::unique_lock lock(mutex_);
  while (!items_.empty() && items_.front().position <= position) {
    if (busy_)
      done_.wait(lock);
    else
      run_front(lock);
  }
}

void Completions::loop() {
  cudaSetDevice(ordinal_);
  std::unique_lock lock(mutex_);
  for (;;) {
    work_.wait(lock, [this] { return stop_ || (!items_.empty() && !busy_); });
    if (!items_.empty() && !busy_)
      run_front(lock);
    else if (stop_ && items_.empty())
      return;
    else
      done_.wait(lock);  // stopping while somebody else runs the last item
  }
}

}  // namespace eq
