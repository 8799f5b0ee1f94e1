// The memory that is watched, and what was last done to it: races.h.
#include "simt/races.h"

#include <algorithm>
#include <bit>
#include <numeric>

#include "simt/scheduler.h"

// Of this library, from the linker.
extern "C" __attribute__((visibility("hidden"))) char __bss_start[], _end[], __ehdr_start[];

namespace eq::simt {

namespace {

constexpr std::uint32_t kUnderWay = UINT32_MAX;  ///< no clock comes so far
std::uintptr_t address(const void* p) { return reinterpret_cast<std::uintptr_t>(p); }
bool is_static(std::uintptr_t at) { return at - address(__bss_start) < address(_end) - address(__bss_start); }

}  // namespace

Races races;

std::uint32_t Races::offset(const void* place) {
  return static_cast<std::uint32_t>(address(place) - address(__ehdr_start));
}

void Races::begin_launch(const GlobalMemory& memory, unsigned blocks, unsigned threads, std::uint32_t first_run) {
  memory_ = &memory;
  first_run_ = first_run;
  block_threads_ = threads;
  threads_ = blocks * threads;
  const unsigned warps = blocks * ((threads + 31) / 32);
  clocks_.begin_launch(threads_, warps);
  chunks_.clear();
  recent_.fill({});
  used_ = 0;
  table_used_ = threads_ + warps;
  if (table_used_ > table_size_) {
    tables_.clear();
    table_size_ = table_used_;
  }
}

void Races::begin_run(std::uint32_t run) {
  run_ = run;
  clocks_.begin_run(run);
  used_tables_ = 0;
  free_tables_.clear();
}

void Races::enter(unsigned thread, unsigned rank, std::span<const std::byte> stack) {
  thread_ = thread;
  rank_ = rank;
  watching_ = true;
  stack_ = {address(stack.data()), stack.size()};
  refresh();
}

Races::Copy Races::copy_begins(const void* to, std::size_t bytes) {
  const Copy copy{now_, offset(place_), static_cast<std::uint16_t>(thread_)};
  check(address(to), bytes, {run_, kUnderWay, copy.place, copy.thread, Access::Store});
  return copy;
}

void Races::copy_ends(const Copy& copy, const void* to, std::size_t bytes, bool now) {
  const unsigned running = std::exchange(thread_, copy.thread);
  refresh();
  check(address(to), bytes, {run_, now ? now_ : copy.clock, copy.place, copy.thread, Access::Store});
  thread_ = running;
  refresh();
}

void Races::product_load(const void* p, std::size_t bytes, std::uint32_t product) {
  check(address(p), bytes, {run_, product, offset(place_), static_cast<std::uint16_t>(products()), Access::Load});
}

void Races::products_ended(std::uint32_t product) {
  unsigned lanes[32];
  std::iota(std::begin(lanes), std::end(lanes), thread_ - thread_ % block_threads_ % 32);
  clocks_.learn(lanes, products(), product);
  refresh();
}

void Races::atomic(const void* p, std::size_t bytes, const void* place) {
  access(p, bytes, Access::Atomic, place);
  if (!is_static(address(p)) && memory_->owns(address(p))) clocks_.atomic(thread_, p);
  refresh();
}

/// The record of the bytes around `at`; null if they are not watched.
Races::Chunk* Races::find(std::uintptr_t at) {
  // Blocks of a cluster have static variables of their own on a GPU.
  const std::uint64_t key = at >> kChunkBits | (is_static(at) ? std::uint64_t{rank_} << 60 : 0);
  Recent& recent = recent_[key % recent_.size()];
  if (recent.key != key) {
    const auto [it, fresh] = chunks_.try_emplace(key, nullptr);
    if (fresh) it->second = make_chunk(at);
    recent = {key, it->second};
  }
  return recent.chunk;
}

Races::Chunk* Races::make_chunk(std::uintptr_t at) {
  const bool global = memory_->owns(at);
  if (!global && !is_static(at) && !running().owns(reinterpret_cast<const std::byte*>(at))) return nullptr;
  if (used_ == pool_.size()) pool_.push_back(std::make_unique<Chunk>());
  Chunk& chunk = *pool_[used_++];
  chunk.global = global;
  chunk.shift = kLargestGranule;
  chunk.cells.assign(std::size_t{1} << (kChunkBits - kLargestGranule), {});
  return &chunk;
}

void Races::refine(Chunk& chunk, unsigned shift) {
  std::vector<Cell> cells;
  cells.reserve(std::size_t{1} << (kChunkBits - shift));
  const unsigned parts = 1u << (chunk.shift - shift);
  for (const Cell& cell : chunk.cells)
    for (unsigned i = 0; i < parts; ++i) {
      Cell& part = cells.emplace_back(cell);
      if (i == 0 || cell.loads == 0 || !is_current(cell.load)) continue;
      part.loads = new_table();
      const Loads &from = table(cell.loads), &to = table(part.loads);
      std::copy_n(from.clocks.get(), table_used_, to.clocks.get());
      std::copy_n(from.places.get(), table_used_, to.places.get());
      table(part.loads).meeting = from.meeting;
    }
  chunk.cells = std::move(cells);
  chunk.shift = shift;
}

std::uint32_t Races::new_table() {
  std::uint32_t number;
  if (!free_tables_.empty()) {
    number = free_tables_.back();
    free_tables_.pop_back();
  } else {
    if (used_tables_ == tables_.size())
      tables_.push_back({0, std::make_unique_for_overwrite<std::uint32_t[]>(table_size_),
                         std::make_unique_for_overwrite<std::uint32_t[]>(table_size_)});
    number = ++used_tables_;
  }
  table(number).meeting = 0;
  std::fill_n(table(number).clocks.get(), table_used_, 0u);
  return number;
}

void Races::check(std::uintptr_t at, std::size_t bytes, Event event) {
  constexpr std::uintptr_t kMask = (1u << kChunkBits) - 1;
  while (bytes > 0) {
    const auto first = static_cast<unsigned>(at & kMask);
    const auto count = static_cast<unsigned>(std::min<std::size_t>(bytes, kMask + 1 - first));
    if (Chunk* chunk = find(at)) {
      const auto shift = static_cast<unsigned>(std::countr_zero(first | count));
      if (shift < chunk->shift) refine(*chunk, shift);
      for (unsigned i = first >> chunk->shift; i < (first + count) >> chunk->shift; ++i) {
        if (event.kind == Access::Load)
          load(chunk->cells[i], event, chunk->global, at, count);
        else
          store(chunk->cells[i], event, chunk->global, at, count);
      }
    }
    at += count;
    bytes -= count;
  }
}

/// Whether `before`, an event of this launch, must have come before what the running thread does now.
bool Races::ordered(const Event& before, Event event, bool global) const {
  if (before.run < first_run_) return true;
  if (before.run == run_ &&
      (before.thread == event.thread || before.thread == thread_ || before.clock <= seen_[before.thread]))
    return true;
  // Other blocks have shared memory of their own.
  if (!global) return before.run != run_;
  return clocks_.learnt(thread_, before.run, before.thread, before.clock);
}

void Races::load(Cell& cell, Event event, bool global, std::uintptr_t at, std::size_t bytes) {
  if (!ordered(cell.store, event, global)) report(cell.store, event, at, bytes);
  Event& last = cell.load;
  if (!is_current(last)) {
    if (global && last.run >= first_run_) cell.load_elsewhere = last;
    cell.loads = 0;
  } else if (cell.loads != 0) {
    add(table(cell.loads), event);
  } else if (last.thread != event.thread && last.clock > seen_[last.thread]) {
    cell.loads = new_table();
    add(table(cell.loads), last);
    add(table(cell.loads), event);
  }
  last = event;
}

void Races::store(Cell& cell, Event event, bool global, std::uintptr_t at, std::size_t bytes) {
  const bool both_atomic = event.kind == Access::Atomic && cell.store.kind == Access::Atomic;
  if (!both_atomic && !ordered(cell.store, event, global)) report(cell.store, event, at, bytes);
  if (!ordered(cell.load, event, global)) report(cell.load, event, at, bytes);
  if (global && !ordered(cell.load_elsewhere, event, global)) report(cell.load_elsewhere, event, at, bytes);
  if (cell.loads != 0) {
    if (is_current(cell.load)) {
      const Loads& loads = table(cell.loads);
      if (loads.meeting >= meetings_) check_loads(loads, event, global, at, bytes);
      free_tables_.push_back(cell.loads);
    }
    cell.loads = 0;
  }
  cell.load = cell.load_elsewhere = {};
  cell.store = event;
}

void Races::check_loads(const Loads& loads, Event event, bool global, std::uintptr_t at, std::size_t bytes) const {
  const std::uint32_t* clocks = loads.clocks.get();
  const auto threads = static_cast<unsigned>(table_used_);
  unsigned unknown = 0;
  for (unsigned t = 0; t < threads; ++t) unknown += clocks[t] > seen_[t];
  if (unknown == 0) return;
  for (unsigned t = 0; t < threads; ++t) {
    if (clocks[t] <= seen_[t]) continue;
    const Event before{run_, clocks[t], loads.places[t], static_cast<std::uint16_t>(t), Access::Load};
    if (!ordered(before, event, global)) report(before, event, at, bytes);
  }
}

void Races::report(const Event& before, Event event, std::uintptr_t at, std::size_t bytes) const {
  const Scheduler& s = running();
  const auto is = [](Access kind, const char* load, const char* store, const char* atomic) {
    return kind == Access::Load ? load : kind == Access::Store ? store : atomic;
  };
  const std::string where = is_static(at)       ? " of static shared memory"
                            : memory_->owns(at) ? ", " + memory_->describe(at)
                                                : " at " + s.describe_shared(at);
  running().fail(concat(is(event.kind, "loads ", "stores ", "atomically changes "), bytes, " bytes", where, ", that ",
                        s.describe_thread(before.run, before.thread),
                        is(before.kind, " loaded", " stored", " atomically changed"),
                        before.clock == kUnderWay ? " by a copy it has not waited for" : ", and nothing orders the two",
                        "\n  here:   ", describe_place(event.place), "\n  before: ", describe_place(before.place)));
}

}  // namespace eq::simt
