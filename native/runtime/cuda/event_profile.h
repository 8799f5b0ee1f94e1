// Times launches with events on the stream, and turns them into profiler ranges later.
#pragma once

#include <cstdint>
#include <vector>

#include <cuda_runtime.h>

#include "runtime/profiler.h"

namespace eq {

class EventProfile {
 public:
  EventProfile() = default;
  EventProfile(const EventProfile&) = delete;
  EventProfile& operator=(const EventProfile&) = delete;
  ~EventProfile();

  /// Before and after a launch. Launches of one op within one call from JavaScript make one range.
  void begin(cudaStream_t stream, const OpInfo& info, std::uint64_t call);
  void end(cudaStream_t stream);
  /// Waits for what has been timed and hands it over.
  void flush(Profiler& profiler);

 private:
  struct Range {
    OpInfo info;
    std::uint64_t call;
    cudaEvent_t start, end;
  };
  cudaEvent_t record(cudaStream_t stream);
  void recycle(const Range& range);

  std::vector<Range> ranges_;
  std::vector<cudaEvent_t> free_;
  cudaEvent_t base_ = nullptr;
  std::int64_t base_ns_ = 0;  ///< host time of `base_`
};

}  // namespace eq
