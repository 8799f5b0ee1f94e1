// One range per launch: op, shapes, bytes, FLOPs, start and end. Off by default; when off a launch pays
// one relaxed atomic load.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "shape.h"

namespace eq {

/// What a launch is, for profiles and for fault messages. `name` must be a string literal.
struct OpInfo {
  static constexpr int kMaxShapes = 4;
  const char* name = "";
  double flops = 0;
  double bytes = 0;
  int shape_count = 0;
  Shape shapes[kMaxShapes];

  OpInfo() = default;
  OpInfo(const char* op, std::initializer_list<Shape> inputs, double flop_count = 0, double byte_count = 0)
      : name(op), flops(flop_count), bytes(byte_count) {
    for (const Shape& s : inputs)
      if (shape_count < kMaxShapes) shapes[shape_count++] = s;
  }
  std::string describe() const {
    std::string s = name;
    for (int i = 0; i < shape_count; ++i) s.append(i ? " x " : " ").append(shapes[i].str());
    return s;
  }
};

struct ProfileRange {
  std::string op;
  std::string shapes;
  double flops, bytes;
  std::int64_t start_ns, end_ns;
};

class Profiler {
 public:
  bool enabled() const { return enabled_.load(std::memory_order_relaxed); }
  void enable(bool on) { enabled_.store(on, std::memory_order_relaxed); }
  static std::int64_t now_ns() {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
        .count();
  }
  void record(const OpInfo& info, std::int64_t start, std::int64_t end) {
    std::string shapes;
    for (int i = 0; i < info.shape_count; ++i) shapes.append(i ? " " : "").append(info.shapes[i].str());
    std::lock_guard lock(mutex_);
    ranges_.push_back({info.name, std::move(shapes), info.flops, info.bytes, start, end});
  }
  std::vector<ProfileRange> take() {
    std::lock_guard lock(mutex_);
    return std::exchange(ranges_, {});
  }

 private:
  std::atomic<bool> enabled_{false};
  std::mutex mutex_;
  std::vector<ProfileRange> ranges_;
};

}  // namespace eq
