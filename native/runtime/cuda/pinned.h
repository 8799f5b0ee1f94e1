// Page-locked host memory for transfers, and events, both kept for reuse.
#pragma once

#include <cstddef>
#include <map>
#include <mutex>
#include <vector>

#include <cuda_runtime.h>

namespace eq {

struct Pinned {
  std::byte* data = nullptr;
  std::size_t bytes = 0;
};

/// Called from the JavaScript thread and the completion thread.
class PinnedPool {
 public:
  PinnedPool() = default;
  PinnedPool(const PinnedPool&) = delete;
  PinnedPool& operator=(const PinnedPool&) = delete;
  ~PinnedPool();

  /// At least `bytes`; throws a RangeError when the system has none.
  Pinned take(std::size_t bytes);
  void give_back(Pinned block);

 private:
  /// What is kept while nobody uses it.
  static constexpr std::size_t kKeep = std::size_t{256} << 20;
  std::mutex mutex_;
  std::multimap<std::size_t, Pinned> free_;
  std::size_t kept_ = 0;
};

class EventPool {
 public:
  EventPool() = default;
  EventPool(const EventPool&) = delete;
  EventPool& operator=(const EventPool&) = delete;
  ~EventPool();

  /// An event recorded on `stream` now. Waiting for it yields the processor.
  cudaEvent_t record(cudaStream_t stream);
  void give_back(cudaEvent_t event);

 private:
  std::mutex mutex_;
  std::vector<cudaEvent_t> free_;
};

}  // namespace eq
