#include "runtime/cuda/event_profile.h"

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

cudaEvent_t EventProfile::take() {
  cudaEvent_t event;
  if (free_.empty()) {
    check_cuda(cudaEventCreate(&event), "profiler");
  } else {
    event = free_.back();
    free_.pop_back();
  }
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
  ranges_.push_back({info, call, take(), take()});
  check_cuda(cudaEventRecord(ranges_.back().start, stream), "profiler");
}

void EventProfile::end(cudaStream_t stream) { check_cuda(cudaEventRecord(ranges_.back().end, stream), "profiler"); }

void EventProfile::flush(Profiler& profiler) {
  if (ranges_.empty()) return;
  check_cuda(cudaEventSynchronize(ranges_.back().end), "profiler");
  for (const Range& r : ranges_) {
    float start = 0, length = 0;
    check_cuda(cudaEventElapsedTime(&start, base_, r.start), "profiler");
    check_cuda(cudaEventElapsedTime(&length, r.start, r.end), "profiler");
    const std::int64_t begin = base_ns_ + static_cast<std::int64_t>(static_cast<double>(start) * 1e6);
    profiler.record(r.info, begin, begin + static_cast<std::int64_t>(static_cast<double>(length) * 1e6));
    free_.push_back(r.start);
    free_.push_back(r.end);
  }
  ranges_.clear();
}

}  // namespace eq
