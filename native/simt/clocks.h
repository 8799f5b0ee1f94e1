// What orders the accesses of a launch's threads: a vector clock for each, over the threads of its cluster and, as
// further ones that read by themselves, the wgmma products of each warp.
//
//   a thread's clock      ticks whenever others may learn what it has done so far
//   barriers, __syncwarp  all who meet learn what any of them knows. Shuffles, votes and tensor-core instructions meet
//                         too, and order nothing (CUDA programming guide, "Warp Shuffle Functions")
//   __threadfence         as a fence.sc of the PTX memory model: what a thread knows at a fence is published by atomics
//                         that follow it, and learnt at a fence that follows an atomic on the same address
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

namespace eq::simt {

/// How many releases through each atomic are known.
using Acquired = std::map<const void*, std::size_t>;

struct Knowledge {
  std::vector<std::uint32_t> seen;    ///< of each thread of the cluster: its accesses up to this clock
  std::vector<std::uint32_t> fenced;  ///< the part of `seen` that a fence has followed; empty before the first
  Acquired others, others_fenced;     ///< the same of other clusters
  Acquired observed;                  ///< met by atomics that no fence has followed yet
};
using Snapshot = std::shared_ptr<const Knowledge>;

/// What either knows; either may be null.
Snapshot merge(const Snapshot& a, const Snapshot& b);

class Clocks {
 public:
  void begin_launch(unsigned threads, unsigned products);
  /// A cluster starts; `run` is its number.
  void begin_run(std::uint32_t run);

  std::uint32_t now(unsigned thread) const { return threads_[thread].now; }
  const std::uint32_t* seen(unsigned thread) const { return threads_[thread].known->seen.data(); }

  /// What the thread knows and has done, for others to learn.
  Snapshot release(unsigned thread);
  void acquire(unsigned thread, const Snapshot& what);
  /// These threads meet at a barrier.
  void join(std::span<const unsigned> threads);
  /// They know what `other` did up to this clock.
  void learn(std::span<const unsigned> threads, unsigned other, std::uint32_t clock);
  void fence(unsigned thread);
  /// An atomic that reads and writes `at` in global memory.
  void atomic(unsigned thread, const void* at);
  /// Whether `thread` knows through atomics and fences what another has done in `run` up to `clock`.
  bool learnt(unsigned thread, std::uint32_t run, unsigned other, std::uint32_t clock) const;

 private:
  struct Thread {
    std::uint32_t now = 1;
    Snapshot known;
  };
  /// What a cluster published through an atomic.
  struct Release {
    std::uint32_t run;
    std::vector<std::uint32_t> seen;
  };
  struct Atomic {
    std::vector<Release> releases;
    Acquired others;  ///< known to those who released
  };

  std::vector<Thread> threads_;
  Snapshot nothing_;
  std::unordered_map<const void*, Atomic> atomics_;
  std::uint32_t run_ = 0;
};

}  // namespace eq::simt
