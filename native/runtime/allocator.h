// Caching allocator for one device. Blocks are handed out and taken back on the JavaScript thread, in the
// order in which work is queued; a block freed while queued kernels still use it may be reused at once,
// because whatever is queued later also runs later. Only giving memory back to the system has to wait for
// the queue, so each cached block remembers the last queue position that could touch it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>

namespace eq {

struct MemoryStats {
  std::size_t in_use = 0;  ///< bytes of live tensors, rounded up to block sizes
  std::size_t cached = 0;  ///< bytes kept for reuse
  std::size_t peak = 0;    ///< largest in_use so far
  std::size_t limit = 0;   ///< in_use + cached never exceeds this
  std::size_t blocks = 0;  ///< live blocks
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
};

struct Block {
  void* data = nullptr;
  std::size_t bytes = 0;       ///< capacity
  std::uint64_t last_use = 0;  ///< queue position at the time of the last free; 0 = fresh
};

class CachingAllocator {
 public:
  CachingAllocator(MemorySource& source, std::size_t limit) : source_(source) { stats_.limit = limit; }
  ~CachingAllocator() { trim(0); }
  CachingAllocator(const CachingAllocator&) = delete;
  CachingAllocator& operator=(const CachingAllocator&) = delete;

  /// Throws RangeError beyond the limit or when the system refuses.
  Block allocate(std::size_t bytes);
  void free(Block block);
  /// Gives cached memory back to the system until at most `keep` bytes stay cached.
  void trim(std::size_t keep);
  void set_limit(std::size_t bytes);
  const MemoryStats& stats() const { return stats_; }

 private:
  static std::size_t rounded(std::size_t bytes);
  void release(std::multimap<std::size_t, Block>::iterator it);

  MemorySource& source_;
  MemoryStats stats_;
  std::multimap<std::size_t, Block> cache_;
};

}  // namespace eq
