#include "allocator.h"

#include <algorithm>
#include <bit>

#include "status.h"

namespace eq {

CachingAllocator::~CachingAllocator() {
  while (!pools_.empty()) release_pool(pools_.begin()->first);
  trim(0);
}

// Eight sizes per power of two: at most 12.5 % waste, and sizes that differ slightly share blocks.
std::size_t CachingAllocator::rounded(std::size_t bytes) {
  const std::size_t n = std::max<std::size_t>(bytes, 64);
  const std::size_t step = std::max<std::size_t>(std::bit_floor(n) / 8, 64);
  return (n + step - 1) / step * step;
}

/// Takes a free block of `pool`, if one fits. Up to a quarter larger is a fair trade against asking the system.
bool CachingAllocator::take(std::uint32_t pool, std::size_t want, Block& block) {
  Cache& cache = pool == 0 ? cache_ : pools_[pool];
  const auto it = cache.lower_bound(want);
  if (it == cache.end() || it->first > want + want / 4) return false;
  block = it->second;
  cache.erase(it);
  (pool == 0 ? stats_.cached : stats_.held) -= block.bytes;
  ++stats_.cache_hits;
  return true;
}

/// Memory from the system, within the limit.
Block CachingAllocator::obtain(std::size_t bytes, std::size_t want) {
  check_range(want <= stats_.limit, "allocation of ", bytes, " bytes exceeds the memory limit of ", stats_.limit,
              " bytes");
  const std::size_t taken = stats_.in_use + stats_.held;
  if (taken + stats_.cached + want > stats_.limit) trim(stats_.limit - std::min(stats_.limit, taken + want));
  check_range(taken + want <= stats_.limit, "allocation of ", bytes, " bytes exceeds the memory limit of ",
              stats_.limit, " bytes (", taken, " in use)");
  Block block;
  block.bytes = want;
  block.data = source_.raw_allocate(want);
  if (!block.data) {
    trim(0);
    block.data = source_.raw_allocate(want);
  }
  check_range(block.data != nullptr, "out of memory: the system refused ", bytes, " bytes (", taken, " in use)");
  return block;
}

Block CachingAllocator::allocate(std::size_t bytes) {
  const std::size_t want = source_.reuses_memory() ? rounded(bytes) : bytes;
  ++stats_.allocations;
  Block block;
  const bool reused =
      (current_ != 0 && take(current_, want, block)) || (source_.reuses_memory() && take(0, want, block));
  if (!reused) block = obtain(bytes, want);
  block.requested = bytes;
  block.pool = current_;
  stats_.in_use += block.bytes;
  stats_.requested += bytes;
  ++stats_.blocks;
  stats_.peak = std::max(stats_.peak, stats_.in_use);
  return block;
}

void CachingAllocator::free(Block block) {
  if (!block.data) return;
  block.last_use = source_.submitted();
  stats_.in_use -= block.bytes;
  stats_.requested -= block.requested;
  --stats_.blocks;
  if (const auto pool = pools_.find(block.pool); pool != pools_.end()) {
    stats_.held += block.bytes;
    pool->second.emplace(block.bytes, block);
    return;
  }
  block.pool = 0;
  if (!source_.reuses_memory()) {
    source_.wait_for(block.last_use);
    source_.raw_free(block.data, block.bytes);
    return;
  }
  stats_.cached += block.bytes;
  cache_.emplace(block.bytes, block);
  // A training step gives back in its backward pass what its next forward pass asks for again, and fresh pages cost
  // more than most kernels: live and cached memory together may reach a quarter above the largest live size seen.
  const std::size_t bound = std::max<std::size_t>(std::size_t{256} << 20, stats_.peak + stats_.peak / 4);
  const std::size_t keep = bound - std::min(bound, stats_.in_use);
  if (stats_.cached <= keep) return;
  const std::uint64_t done = source_.completed();
  for (auto it = cache_.end(); it != cache_.begin() && stats_.cached > keep;) {
    auto cur = std::prev(it);
    if (cur->second.last_use <= done)
      release(cur);
    else
      it = cur;
  }
}

void CachingAllocator::trim(std::size_t keep) {
  while (stats_.cached > keep && !cache_.empty()) {
    auto it = std::prev(cache_.end());
    source_.wait_for(it->second.last_use);
    release(it);
  }
}

void CachingAllocator::set_limit(std::size_t bytes) {
  const std::size_t taken = stats_.in_use + stats_.held;
  check_range(bytes >= taken, "memory limit: ", bytes, " bytes is below the ", taken, " bytes in use");
  stats_.limit = bytes;
  if (taken + stats_.cached > bytes) trim(bytes - taken);
}

std::size_t CachingAllocator::largest_cached() const { return cache_.empty() ? 0 : std::prev(cache_.end())->first; }

std::uint32_t CachingAllocator::begin_pool() {
  check_type(current_ == 0, "a graph is being recorded already");
  current_ = ++last_pool_;
  pools_[current_];
  return current_;
}

void CachingAllocator::release_pool(std::uint32_t pool) {
  const auto it = pools_.find(pool);
  if (it == pools_.end()) return;
  for (auto& [bytes, block] : it->second) {
    block.pool = 0;
    block.last_use = source_.submitted();
    stats_.held -= bytes;
    stats_.cached += bytes;
    cache_.emplace(bytes, block);
  }
  pools_.erase(it);
  if (current_ == pool) current_ = 0;
}

void CachingAllocator::release(Cache::iterator it) {
  stats_.cached -= it->second.bytes;
  source_.raw_free(it->second.data, it->second.bytes);
  cache_.erase(it);
}

}  // namespace eq
