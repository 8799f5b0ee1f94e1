// Caching allocator for one device. Blocks are handed out and taken back on the JavaScript thread, in the
// order in which work is queued; a block freed while queued kernels still use it may be reused at once,
// because whatever is queued later also runs later. Only giving memory back to the system has to wait for
// the queue, so each cached block remembers the last queue position that could touch it.
//
// A recorded graph of launches runs again later, so the blocks it uses form a pool: while it is recorded they are
// reused among its own launches, and as long as it lives nobody else gets them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>

namespace eq {

struct MemoryStats {
  std::size_t in_use = 0;     ///< bytes of live tensors, rounded up to block sizes
  std::size_t requested = 0;  ///< bytes that these tensors asked for
  std::size_t cached = 0;     ///< bytes kept for reuse
  std::size_t held = 0;       ///< free bytes that recorded graphs keep to themselves
  std::size_t peak = 0;       ///< largest in_use so far
  std::size_t limit = 0;      ///< in_use + cached + held never exceeds this
  std::size_t blocks = 0;     ///< live blocks
  std::uint64_t allocations = 0, cache_hits = 0;
};

/// Where raw memory comes from and how far the queue has come; implemented by each device.
class MemorySource {
 public:
  virtual ~MemorySource() = default;
  /// Returns nullptr when the system has none left.
  virtual void* raw_allocate(std::size_t bytes) = 0;
  virtual void raw_free(void* p, std::size_t bytes) = 0;
  virtual std::uint64_t submitted() const = 0;
  virtual std::uint64_t completed() const = 0;
  virtual void wait_for(std::uint64_t position) = 0;
  /// False for a device that wants every allocation exactly as asked, and every free at once: to find accesses outside.
  virtual bool reuses_memory() const { return true; }
};

struct Block {
  void* data = nullptr;
  std::size_t bytes = 0;       ///< capacity
  std::size_t requested = 0;   ///< what its present owner asked for
  std::uint64_t last_use = 0;  ///< queue position at the time of the last free; 0 = fresh
  std::uint32_t pool = 0;      ///< the graph it belongs to; 0 = none
};

class CachingAllocator {
 public:
  CachingAllocator(MemorySource& source, std::size_t limit) : source_(source) { stats_.limit = limit; }
  ~CachingAllocator();
  CachingAllocator(const CachingAllocator&) = delete;
  CachingAllocator& operator=(const CachingAllocator&) = delete;

  /// Throws RangeError beyond the limit or when the system refuses.
  Block allocate(std::size_t bytes);
  void free(Block block);
  /// Gives cached memory back to the system until at most `keep` bytes stay cached.
  void trim(std::size_t keep);
  void set_limit(std::size_t bytes);
  const MemoryStats& stats() const { return stats_; }
  /// The largest block that is free for anybody. Far below `cached`, the cache is fragmented.
  std::size_t largest_cached() const;

  /// Blocks allocated from now until end_pool belong to a new pool, whose number is returned.
  std::uint32_t begin_pool();
  void end_pool() { current_ = 0; }
  /// The pool's free blocks may be reused by anybody; its live blocks as soon as they are freed.
  void release_pool(std::uint32_t pool);

 private:
  using Cache = std::multimap<std::size_t, Block>;
  static std::size_t rounded(std::size_t bytes);
  bool take(std::uint32_t pool, std::size_t want, Block& block);
  Block obtain(std::size_t bytes, std::size_t want);
  void release(Cache::iterator it);

  MemorySource& source_;
  MemoryStats stats_;
  Cache cache_;
  std::map<std::uint32_t, Cache> pools_;
  std::uint32_t current_ = 0, last_pool_ = 0;
};

}  // namespace eq
