#include "runtime/cuda/event_profile.h"

#include <utility>

#include "runtime/cuda/kernel.cuh"

namespace eq {

EventProfile::~EventProfile() {
  for (const Range& r : ranges_) {
    cudaEventDestroy(r.start);
    cudaEventDestroy(r.end);
  }
  for (cudaEvent_t event : free_) cudaEventDestroy(event);
  if (base_) cudaEventDestroy(base_);
}

/// Records one of the free events, and makes a second one free to be recorded at the range's end.
cudaEvent_t EventProfile::record(cudaStream_t stream) {
  while (free_.size() < 2) {
    cudaEvent_t fresh = nullptr;
    check_cuda(cudaEventCreate(&fresh), "profiler");
    free_.push_back(fresh);
  }
  const cudaEvent_t event = free_.back();
  check_cuda(cudaEventRecord(event, stream), "profiler");
  free_.pop_back();
  return event;
}

void EventProfile::begin(cudaStream_t stream, const OpInfo& info, std::uint64_t call) {
  if (ranges_.empty()) {
    // Device time is told relative to this event; elapsed times are floats, so a new one for every collection.
    if (!base_) check_cuda(cudaEventCreate(&base_), "profiler");
    check_cuda(cudaEventRecord(base_, stream), "profiler");
    check_cuda(cudaEventSynchronize(base_), "profiler");
    base_ns_ = Profiler::now_ns();
  } else if (const Range& last = ranges_.back(); last.call == call && last.info.name == info.name) {
    return;  // goes on
  }
  const cudaEvent_t start = record(stream);
  ranges_.push_back({info, call, start, free_.back()});
  free_.pop_back();
}

void EventProfile::end(cudaStream_t stream) {
  const cudaError_t status = cudaEventRecord(ranges_.back().end, stream);
  if (status == cudaSuccess) return;
  recycle(ranges_.back());  // a range without an end is none
  ranges_.pop_back();
  check_cuda(status, "profiler");
}

void EventProfile::recycle(const Range& range) {
  free_.push_back(range.start);
  free_.push_back(range.end);
}

void EventProfile::flush(Profiler& profiler) {
  const std::vector<Range> ranges = std::exchange(ranges_, {});
  for (const Range& r : ranges) recycle(r);
  if (!ranges.empty()) check_cuda(cudaEventSynchronize(ranges.back().end), "profiler");
  for (const Range& r : ranges) {
    float start = 0, length = 0;
    check_cuda(cudaEventElapsedTime(&start, base_, r.start), "profiler");
    check_cuda(cudaEventElapsedTime(&length, r.start, r.end), "profiler");
    const std::int64_t begin = base_ns_ + static_cast<std::int64_t>(static_cast<double>(start) * 1e6);
    profiler.record(r.info, begin, begin + static_cast<std::int64_t>(static_cast<double>(length) * 1e6));
  }
}

}  // namespace eq
