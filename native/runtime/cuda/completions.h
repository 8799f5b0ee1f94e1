// What has to happen on the host when the stream has come to a point: one thread waits for events in order.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

#include "runtime/cuda/pinned.h"

namespace eq {

class Completions {
 public:
  /// Receives the result of waiting for the event.
  using Action = std::function<void(cudaError_t)>;

  Completions(int ordinal, EventPool& events);
  /// Runs what is pending.
  ~Completions();
  Completions(const Completions&) = delete;
  Completions& operator=(const Completions&) = delete;

  void push(std::uint64_t position, cudaEvent_t event, Action action);
  /// Returns when every action up to `position` has run; runs them itself where the thread has not begun.
  void drain(std::uint64_t position);

 private:
  struct Item {
    std::uint64_t position;
    cudaEvent_t event;
    Action action;
  };
  void loop();
  void run_front(std::unique_lock<std::mutex>& lock);

  int ordinal_;
  EventPool& events_;
  std::mutex mutex_;
  std::condition_variable work_, done_;
  std::deque<Item> items_;
  bool busy_ = false;  ///< somebody runs the first item
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace eq
