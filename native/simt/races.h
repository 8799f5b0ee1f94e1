// Data races. Kernels are compiled with -fsanitize=thread for its calls at every load and store alone
// (instrumentation.cc; the sanitizer's library is not used): a load and a store, or two stores, of the same byte by
// different threads of which neither is ordered before the other (clocks.h) end the launch with an error, whatever the
// order in which the fibers ran.
//
// Shared memory is checked within a block and its cluster, tensors within a launch. For every granule of memory the
// last store and the loads since are kept, as in FastTrack (Flanagan and Freund, PLDI 2009). Not seen:
//
//   a plain access        that follows several atomics is compared with the last of them alone
//   loads of a tensor     by more than two clusters, where another stores there after it met some of them through
//                         atomics, are compared only in part; those of bulk copies are not seen at all
//   a thread's own copy   that it reads before it has waited: such memory is NaN or old
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "simt/clocks.h"
#include "simt/global_memory.h"
#include "simt/simt.h"

namespace eq::simt {

enum class Access : std::uint16_t { Load, Store, Atomic };

class Races {
 public:
  /// Clusters of `blocks` blocks of `threads` threads; runs below `first_run` are of earlier launches.
  void begin_launch(const GlobalMemory& memory, unsigned blocks, unsigned threads, std::uint32_t first_run);
  void begin_run(std::uint32_t run);
  /// From now on it is `thread` of block `rank` in the cluster that acts, on this stack.
  void enter(unsigned thread, unsigned rank, std::span<const std::byte> stack);
  /// No thread acts: accesses are the shim's own.
  void leave() { watching_ = false; }

  /// A load or store by the running thread; `place` is where its code goes on.
  void access(const void* p, std::size_t bytes, Access kind, const void* place) {
    const auto at = reinterpret_cast<std::uintptr_t>(p);
    if (!watching_ || at - stack_.begin < stack_.bytes || at - kCoordinates < sizeof coordinates) return;
    check(at, bytes, {run_, now_, offset(place), static_cast<std::uint16_t>(thread_), kind});
  }
  /// Where the running thread called what the shim carries out for it.
  void at(const void* place) { place_ = place; }
  void access(const void* p, std::size_t bytes, Access kind) { access(p, bytes, kind, place_); }

  /// A copy that the running thread starts: nobody else may touch its destination until it has ended.
  struct Copy {
    std::uint32_t clock, place;
    std::uint16_t thread;
  };
  Copy copy_begins(const void* to, std::size_t bytes);
  /// Its bytes are there, for whoever knows what `copy.thread` did until `now`, or else until it started the copy.
  void copy_ends(const Copy& copy, const void* to, std::size_t bytes, bool now);

  /// A product that the warp of the running thread starts; its number counts the warp's.
  void product_load(const void* p, std::size_t bytes, std::uint32_t product);
  /// The running thread's warp has waited for its products up to this one.
  void products_ended(std::uint32_t product);

  Snapshot release() {
    Snapshot known = clocks_.release(thread_);
    refresh();
    return known;
  }
  void acquire(const Snapshot& what) {
    clocks_.acquire(thread_, what);
    refresh();
  }
  void join(std::span<const unsigned> threads) {
    clocks_.join(threads);
    meetings_ += threads.size() == threads_;
    refresh();
  }
  void fence() {
    clocks_.fence(thread_);
    refresh();
  }
  void atomic(const void* p, std::size_t bytes, const void* place);

 private:
  /// Two registers.
  struct Event {
    std::uint32_t run = 0, clock = 0, place = 0;
    std::uint16_t thread = 0;
    Access kind = Access::Load;
  };
  static_assert(sizeof(Event) == 16);
  struct Cell {
    Event store, load, load_elsewhere;  ///< the last ones; of loads, and the last by another cluster
    std::uint32_t loads = 0;            ///< 1 + the table of loads by thread where `load` is not all
  };
  /// Neighbouring bytes in granules of 1 << shift.
  struct Chunk {
    bool global = false;
    unsigned shift = 0;
    std::vector<Cell> cells;
  };
  /// The loads of a granule by thread, from the latest barrier of all threads on.
  struct Loads {
    std::uint32_t meeting;
    std::unique_ptr<std::uint32_t[]> clocks, places;
  };
  struct Range {
    std::uintptr_t begin = 0;
    std::size_t bytes = 0;
  };

  static inline const auto kCoordinates = reinterpret_cast<std::uintptr_t>(&coordinates);
  static constexpr unsigned kChunkBits = 9, kLargestGranule = 4;

  /// What the products of the running thread's warp are called as a thread.
  unsigned products() const { return threads_ + rank_ * ((block_threads_ + 31) / 32) + thread_ % block_threads_ / 32; }
  static std::uint32_t offset(const void* place);
  /// What the running thread's clocks say, for quick reference.
  void refresh() {
    now_ = clocks_.now(thread_);
    seen_ = clocks_.seen(thread_);
  }
  void check(std::uintptr_t at, std::size_t bytes, Event event);
  Chunk* find(std::uintptr_t at);
  Chunk* make_chunk(std::uintptr_t at);
  void refine(Chunk& chunk, unsigned shift);
  void load(Cell& cell, Event event, bool global, std::uintptr_t at, std::size_t bytes);
  void store(Cell& cell, Event event, bool global, std::uintptr_t at, std::size_t bytes);
  bool is_current(const Event& e) const { return e.run == run_; }
  bool ordered(const Event& before, Event event, bool global) const;
  std::uint32_t new_table();
  Loads& table(std::uint32_t number) { return tables_[number - 1]; }
  void add(Loads& loads, Event event) {
    loads.clocks[event.thread] = event.clock;
    loads.places[event.thread] = event.place;
    // Barriers do not wait for products.
    loads.meeting = event.thread >= threads_ ? UINT32_MAX : std::max(loads.meeting, meetings_);
  }
  void check_loads(const Loads& loads, Event event, bool global, std::uintptr_t at, std::size_t bytes) const;
  [[noreturn]] void report(const Event& before, Event event, std::uintptr_t at, std::size_t bytes) const;

  Clocks clocks_;
  const GlobalMemory* memory_ = nullptr;
  std::uint32_t run_ = 0, first_run_ = 1;
  unsigned threads_ = 0, block_threads_ = 0, thread_ = 0, rank_ = 0;
  std::uint32_t now_ = 0, meetings_ = 0;
  const std::uint32_t* seen_ = nullptr;
  Range stack_;
  bool watching_ = false;  ///< before this is constructed, too
  const void* place_ = nullptr;

  std::unordered_map<std::uint64_t, Chunk*> chunks_;  ///< null: not watched
  std::vector<std::unique_ptr<Chunk>> pool_;
  std::size_t used_ = 0;
  struct Recent {
    std::uint64_t key = ~std::uint64_t{0};
    Chunk* chunk = nullptr;
  };
  std::array<Recent, 1024> recent_;
  std::vector<Loads> tables_;
  std::uint32_t used_tables_ = 0;
  std::vector<std::uint32_t> free_tables_;    ///< of those used
  unsigned table_size_ = 0, table_used_ = 0;  ///< threads that tables have room for, and that the launch has
};

extern Races races;
/// "function (file:line), called at kernel (file:line)", or the offset in this library where addr2line does not tell.
std::string describe_place(std::uint32_t offset);

}  // namespace eq::simt
