#include "allocator.h"

#include <algorithm>
#include <bit>

#include "status.h"

namespace eq {

// Eight sizes per power of two: at most 12.5 % waste, and sizes that differ slightly share blocks.
std::size_t CachingAllocator::rounded(std::size_t bytes) {
  const std::size_t n = std::max<std::size_t>(bytes, 64);
  const std::size_t step = std::max<std::size_t>(std::bit_floor(n) / 8, 64);
  return (n + step - 1) / step * step;
}

Block CachingAllocator::allocate(std::size_t bytes) {
  const std::size_t want = rounded(bytes);
  ++stats_.allocations;
  Block block;
  // A block up to a quarter larger is a fair trade against asking the system.
  if (auto it = cache_.lower_bound(want); it != cache_.end() && it->first <= want + want / 4) {
    block = it->second;
    cache_.erase(it);
    stats_.cached -= block.bytes;
    ++stats_.cache_hits;
  } else {
    check_range(want <= stats_.limit, "allocation of ", bytes, " bytes exceeds the memory limit of ", stats_.limit,
                " bytes");
    if (stats_.in_use + stats_.cached + want > stats_.limit)
      trim(stats_.limit - std::min(stats_.limit, stats_.in_use + want));
    check_range(stats_.in_use + want <= stats_.limit, "allocation of ", bytes, " bytes exceeds the memory limit of ",
                stats_.limit, " bytes (", stats_.in_use, " in use)");
    block.bytes = want;
    block.data = source_.raw_allocate(want);
    if (!block.data) {
      trim(0);
      block.data = source_.raw_allocate(want);
    }
    check_range(block.data != nullptr, "out of memory: the system refused ", bytes, " bytes (", stats_.in_use,
                " in use)");
  }
  stats_.in_use += block.bytes;
  ++stats_.blocks;
  stats_.peak = std::max(stats_.peak, stats_.in_use);
  return block;
}

void CachingAllocator::free(Block block) {
  if (!block.data) return;
  block.last_use = source_.submitted();
  stats_.in_use -= block.bytes;
  --stats_.blocks;
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
  check_range(bytes >= stats_.in_use, "memory limit: ", bytes, " bytes is below the ", stats_.in_use, " bytes in use");
  stats_.limit = bytes;
  if (stats_.in_use + stats_.cached > bytes) trim(bytes - stats_.in_use);
}

void CachingAllocator::release(std::multimap<std::size_t, Block>::iterator it) {
  stats_.cached -= it->second.bytes;
  source_.raw_free(it->second.data, it->second.bytes);
  cache_.erase(it);
}

}  // namespace eq
