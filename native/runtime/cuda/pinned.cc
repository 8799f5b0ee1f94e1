#include "runtime/cuda/pinned.h"

#include <algorithm>
#include <bit>

#include "runtime/cuda/kernel.cuh"

namespace eq {

PinnedPool::~PinnedPool() {
  for (auto& [bytes, block] : free_) cudaFreeHost(block.data);
}

Pinned PinnedPool::take(std::size_t bytes) {
  const std::size_t want = std::bit_ceil(std::max<std::size_t>(bytes, 4096));
  {
    std::lock_guard lock(mutex_);
    // Not far larger than asked for: a scalar must not hold a staging buffer of megabytes.
    if (auto it = free_.lower_bound(want); it != free_.end() && it->first <= 4 * want) {
      const Pinned block = it->second;
      kept_ -= block.bytes;
      free_.erase(it);
      return block;
    }
  }
  void* p = nullptr;
  const cudaError_t status = cudaHostAlloc(&p, want, cudaHostAllocPortable);
  if (status != cudaSuccess) cudaGetLastError();  // not to be found by the next launch
  check_range(status == cudaSuccess, "out of memory: the system refused ", want, " bytes of page-locked memory (",
              cudaGetErrorString(status), ")");
  return {static_cast<std::byte*>(p), want};
}

void PinnedPool::give_back(Pinned block) {
  if (!block.data) return;
  {
    std::lock_guard lock(mutex_);
    if (kept_ + block.bytes <= kKeep) {
      free_.emplace(block.bytes, block);
      kept_ += block.bytes;
      return;
    }
  }
  cudaFreeHost(block.data);
}

EventPool::~EventPool() {
  for (cudaEvent_t event : free_) cudaEventDestroy(event);
}

cudaEvent_t EventPool::record(cudaStream_t stream) {
  cudaEvent_t event = nullptr;
  {
    std::lock_guard lock(mutex_);
    if (!free_.empty()) {
      event = free_.back();
      free_.pop_back();
    }
  }
  if (!event) check_cuda(cudaEventCreateWithFlags(&event, cudaEventBlockingSync | cudaEventDisableTiming), "event");
  const cudaError_t status = cudaEventRecord(event, stream);
  if (status != cudaSuccess) give_back(event);
  check_cuda(status, "event");
  return event;
}

void EventPool::give_back(cudaEvent_t event) {
  std::lock_guard lock(mutex_);
  free_.push_back(event);
}

}  // namespace eq
