// The fibers of a launch. A cluster of blocks (most often one block) runs at a time; a thread runs until it returns or
// waits, and whoever can go on is resumed, warp after warp, block after block.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "runtime/cuda/kernel.cuh"
#include "simt/async.h"
#include "simt/context.h"
#include "simt/global_memory.h"

namespace eq::simt {

constexpr unsigned kMaxThreads = 1024;
/// What every GPU with clusters accepts.
constexpr unsigned kMaxCluster = 8;
static_assert(kMaxCluster * kMaxThreads <= kSlots);
constexpr unsigned kNamedBarriers = 16;

enum class State : std::uint8_t { Fresh, Ready, AtBarrier, AtExchange, Waiting, Done };

/// What a thread waits for, beside the two kinds of meeting that every kernel has.
struct Condition {
  bool (*holds)(void*) = nullptr;
  void* context = nullptr;
  const char* what = "";
};

struct Thread {
  State state = State::Fresh;
  Fiber* fiber = nullptr;
  uint3 index;
  Condition condition;
};

/// A set of lanes that exchange values. Two generations of slots: a lane may deposit the next value while others
/// still read the last.
struct Group {
  unsigned mask = 0, arrived = 0;
  bool orders = false;  ///< those that arrived wait at __syncwarp
  unsigned generation = 0;
  unsigned present[2] = {};
  std::uint64_t slot[2][32];
};

struct Warp {
  std::vector<Group> groups;
  unsigned done = 0;  ///< lanes that have returned, or lie past the end of the block
};

/// A barrier that counts.
struct Arrivals {
  unsigned arrived = 0, expected = 0, generation = 0;
  std::vector<unsigned> threads;  ///< that arrived, by number in the cluster
};

struct Block {
  uint3 index{};
  unsigned rank = 0;  ///< in its cluster
  std::vector<Thread> threads;
  std::vector<Warp> warps;
  int votes = 0, counted = 0;
  Arrivals named[kNamedBarriers];
  std::byte* window = nullptr;  ///< byte 0 of its shared addresses
  Async async;

  bool ended() const {
    for (const Thread& t : threads)
      if (t.state != State::Done) return false;
    return true;
  }
};

class Scheduler {
 public:
  void run(const GlobalMemory& memory, const Launch& launch, std::size_t most_shared, void (*body)(void*),
           void* context);
  /// `orders` for what is a barrier as well (simt.h, warp_barrier).
  std::uint64_t exchange(unsigned mask, std::uint64_t value, int source, unsigned* present,
                         const std::uint64_t** everyone, bool orders = false);
  void warp_barrier(unsigned mask);
  int barrier(int predicate);
  void named_barrier(unsigned index, unsigned threads);
  void cluster_barrier(unsigned blocks);
  const void* in_cluster(const void* shared, unsigned blocks, unsigned rank);
  void wait_until(Condition condition);
  unsigned thread() const { return current_; }
  unsigned slot() const { return block_->rank * kMaxThreads + current_; }
  std::uint64_t run_number() const { return run_number_; }
  Block& block() { return *block_; }
  std::byte* shared() const { return block_->window + kWindow - shared_bytes_; }
  /// Whether this launch runs forwards; the next runs backwards.
  bool forwards() const { return !backwards_; }
  [[noreturn]] void fail(std::string what);
  /// Where the running thread is.
  std::string where() const;
  /// The thread with this number in the cluster of this run, as the running one would call it.
  std::string describe_thread(std::uint64_t run, unsigned thread) const;
  std::string describe_shared(std::uintptr_t at) const;
  /// Whether `p` is in a block's dynamic shared memory.
  bool owns(const std::byte* p) const;
  void trampoline();
  std::string op;  ///< of the launch, for errors

 private:
  void run_cluster(std::uint64_t first);
  void start(Block& block);
  void enter(Block& block);
  bool run_block(Block& block);
  bool step(unsigned t);
  bool run_warp(unsigned w);
  unsigned in_cluster(unsigned thread) const { return block_->rank * count_ + thread; }
  uint3 block_index(std::uint64_t block) const;
  void pass(Arrivals& barrier);
  void yield(State state);
  void release(Warp& warp, Group& group);
  bool release_barrier();
  bool release_cluster();
  void check_ended();
  Fiber* take_fiber();

  Fiber main_;
  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::vector<Fiber*> idle_;
  std::vector<std::unique_ptr<Block>> blocks_;  ///< of the cluster; those beyond cluster_ rest
  Block* block_ = nullptr;
  Arrivals cluster_arrivals_;
  std::vector<unsigned> meeting_;
  unsigned cluster_ = 1, count_ = 0, current_ = 0;
  bool backwards_ = false, in_fiber_ = false;
  std::uint64_t run_number_ = 0, first_run_ = 0;
  void (*body_)(void*) = nullptr;
  void* context_ = nullptr;
  std::size_t shared_bytes_ = 0;
  std::string failure_;
};

/// The one whose launch is running.
Scheduler& running();

/// Runs a launch to its end. `most_shared` is what a block may have of dynamic shared memory.
void run_launch(const std::string& op, const Launch& launch, std::size_t most_shared, void (*thread)(void*),
                void* context, const GlobalMemory& memory);

}  // namespace eq::simt
