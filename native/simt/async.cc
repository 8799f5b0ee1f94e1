// Barriers in shared memory and bulk tensor copies: async.h.
#include "simt/async.h"

#include <algorithm>
#include <cstring>

#include "simt/scheduler.h"

namespace eq::simt {

namespace {

constexpr unsigned kChunk = 16;
constexpr std::uint32_t kMapMark = 0x7a3e5d01u;

[[noreturn]] void fail_with(std::string what) { running().fail(std::move(what)); }

// A barrier's word: 20 bits of arrivals that the phase still lacks, 20 of those every phase has, 21 of bytes under way
// (negative while copies arrive before they are announced), the phase, and a mark that poison does not have.
constexpr std::uint64_t kCountMask = (1u << 20) - 1, kMark = 1;
constexpr int kMostBytes = (1 << 20) - 1;

}  // namespace

void Async::reset(std::byte* window, unsigned first) {
  window_ = window;
  first_ = first;
  async_view_.clear();
  unfenced_.clear();
  copies_.clear();
  waiting_.clear();
  phases_.clear();
  warps_.clear();
  issues_.clear();
}

void Async::check_range(unsigned address, unsigned bytes, const char* what) const {
  if (address < first_ || address > kWindow || bytes > kWindow - address)
    fail_with(concat(what, " shared addresses ", address, " .. ", address + bytes, ", outside the block's ", first_,
                     " .. ", kWindow));
}

// The first instruction that the block issues; kernels without any pay nothing.
void Async::begin() {
  if (used()) return;
  async_view_.assign(window_, window_ + kWindow);
  readers_.assign(kWindow / kChunk, 0);
  writers_.assign(kWindow / kChunk, 0);
  warps_.resize((running().block().threads.size() + 31) / 32);
  issues_.resize((warps_.size() + 3) / 4);
}

Async::Barrier Async::load(unsigned barrier) const {
  if (barrier % 8 != 0) fail_with(concat("uses an mbarrier at ", barrier, ", which is no multiple of 8"));
  check_range(barrier, 8, "uses an mbarrier at");
  std::uint64_t word;
  std::memcpy(&word, window_ + barrier, sizeof word);
  if (word >> 62 != kMark)
    fail_with(concat("uses an mbarrier at ", barrier, " that was not initialised, or has been overwritten"));
  // The bytes' sign is in bit 60.
  return {static_cast<unsigned>(word & kCountMask), static_cast<unsigned>(word >> 20 & kCountMask),
          static_cast<unsigned>(word >> 61 & 1), static_cast<int>(static_cast<std::int64_t>(word << 3) >> 43)};
}

void Async::store(unsigned barrier, Barrier b) {
  if (b.pending == 0 && b.bytes == 0) {
    b.phase ^= 1u;
    b.pending = b.expected;
    Phases& phases = phases_[barrier];
    phases.last = std::exchange(phases.current, nullptr);
  }
  const std::uint64_t bytes = static_cast<std::uint64_t>(b.bytes) & ((1u << 21) - 1);
  const std::uint64_t word =
      b.pending | std::uint64_t{b.expected} << 20 | bytes << 40 | std::uint64_t{b.phase} << 61 | kMark << 62;
  std::memcpy(window_ + barrier, &word, sizeof word);
}

void Async::barrier_init(unsigned barrier, unsigned count) {
  begin();
  if (barrier % 8 != 0) fail_with(concat("initialises an mbarrier at ", barrier, ", which is no multiple of 8"));
  if (count < 1 || count > kCountMask) fail_with(concat("initialises an mbarrier of ", count, " arrivals"));
  check_range(barrier, 8, "initialises an mbarrier at");
  races.access(window_ + barrier, 8, Access::Store);
  store(barrier, {count, count, 0, 0});
  unfenced_.push_back(barrier);
}

void Async::barrier_init_fence() { unfenced_.clear(); }

void Async::barrier_arrive(unsigned barrier, unsigned expected_bytes) {
  Barrier b = load(barrier);
  races.access(window_ + barrier, 8, Access::Atomic);
  Snapshot& known = phases_[barrier].current;
  known = merge(known, races.release());
  if (b.pending == 0)
    fail_with(concat("arrives at the mbarrier at ", barrier, ", which has all ", b.expected,
                     " arrivals of its phase and waits for ", b.bytes, " bytes"));
  --b.pending;
  if (static_cast<int>(expected_bytes) > kMostBytes - b.bytes)
    fail_with(concat("announces ", expected_bytes, " bytes to the mbarrier at ", barrier, ", too many"));
  b.bytes += static_cast<int>(expected_bytes);
  store(barrier, b);
}

void Async::passed(unsigned barrier) {
  races.access(window_ + barrier, 8, Access::Atomic);
  races.acquire(phases_[barrier].last);
}

bool Async::phase_over(unsigned barrier, unsigned parity) { return load(barrier).phase != (parity & 1u); }

void Async::copy(unsigned to, const TensorMap& map, unsigned barrier, const int* at) {
  begin();
  Copy copy{map, {}, to, barrier, {}, {}};
  std::copy_n(at, map.rank, copy.at);
  unsigned bytes = map.element;
  for (int i = 0; i < map.rank; ++i) bytes *= map.box[i];
  const unsigned span = map.swizzle == 0 ? 16 : 16u << map.swizzle, pattern = map.swizzle == 0 ? 128 : 8 * span;
  if (to % pattern != 0) fail_with(concat("copies a tile to ", to, ", which is no multiple of ", pattern));
  if (map.swizzle != 0 && map.box[0] * map.element != span)
    fail_with(concat("copies rows of ", map.box[0] * map.element, " bytes swizzled within ", span, ": not emulated"));
  check_range(to, bytes, "copies a tile to");
  load(barrier);
  if (std::find(unfenced_.begin(), unfenced_.end(), barrier) != unfenced_.end())
    fail_with(concat("copies a tile under the mbarrier at ", barrier, ", whose initialisation no fence has followed"));
  for (unsigned chunk = to / kChunk; chunk < (to + bytes) / kChunk; ++chunk) {
    if (readers_[chunk] != 0)
      fail_with(concat("copies a tile to ", chunk * kChunk, ", an operand of products under way"));
    if (writers_[chunk] != 0)
      fail_with(concat("copies a tile to ", chunk * kChunk, ", which another copy under way writes"));
    ++writers_[chunk];
  }
  races.access(window_ + barrier, 8, Access::Atomic);
  copy.order = races.copy_begins(window_ + to, bytes);
  copy.before = races.release();
  if (running().forwards())
    copies_.push_back(copy);
  else
    arrive(copy);
}

bool Async::deliver() {
  const auto newest =
      std::find_if(copies_.rbegin(), copies_.rend(), [this](const Copy& c) { return waiting_[c.barrier] > 0; });
  if (newest == copies_.rend()) return false;
  const Copy copy = *newest;
  copies_.erase(std::next(newest).base());
  arrive(copy);
  return true;
}

/// Brings the box, zeros where it lies outside the tensor, and counts its bytes.
void Async::arrive(const Copy& copy) {
  const TensorMap& map = copy.map;
  const unsigned row_bytes = map.box[0] * map.element;
  unsigned rows = 1;
  for (int i = 1; i < map.rank; ++i) rows *= map.box[i];
  std::vector<std::byte> line(row_bytes);
  for (unsigned row = 0; row < rows; ++row) {
    const std::byte* from = map.data;
    bool inside = true;
    unsigned rest = row;
    for (int i = 1; i < map.rank; ++i) {
      const std::int64_t at = std::int64_t{copy.at[i]} + rest % map.box[i];
      rest /= map.box[i];
      inside = inside && at >= 0 && at < std::int64_t{map.sizes[i]};
      if (inside) from += static_cast<std::uint64_t>(at) * map.strides[i - 1];
    }
    std::fill(line.begin(), line.end(), std::byte{0});
    const std::int64_t first = copy.at[0], begin = std::max<std::int64_t>(first, 0),
                       end = std::min<std::int64_t>(first + map.box[0], map.sizes[0]);
    if (inside && begin < end)
      std::memcpy(line.data() + (begin - first) * map.element, from + begin * map.element,
                  static_cast<std::size_t>(end - begin) * map.element);
    for (unsigned at = 0; at < row_bytes; at += kChunk) {
      const unsigned to = swizzled(copy.to + row * row_bytes + at, map.swizzle);
      std::memcpy(window_ + to, line.data() + at, kChunk);
      std::memcpy(async_view_.data() + to, line.data() + at, kChunk);
      --writers_[to / kChunk];
    }
  }
  races.copy_ends(copy.order, window_ + copy.to, rows * row_bytes, false);
  Snapshot& known = phases_[copy.barrier].current;
  known = merge(known, copy.before);
  Barrier b = load(copy.barrier);
  b.bytes -= static_cast<int>(rows * row_bytes);
  if (b.bytes < -kMostBytes) fail_with(concat("copies more bytes than the mbarrier at ", copy.barrier, " can count"));
  store(copy.barrier, b);
}

// All stores of the block so far, not only the thread's own, so a fence that some threads leave out goes unnoticed when
// others come after them.
void Async::fence_proxy() {
  begin();
  std::memcpy(async_view_.data() + first_, window_ + first_, kWindow - first_);
  unfenced_.clear();
}

const char* Async::unfinished() const {
  if (!copies_.empty()) return "ends while a copy to its shared memory is under way";
  for (std::size_t w = 0; w < warps_.size(); ++w) {
    if (!warps_[w].products.empty()) return "ends while products are under way";
    if (warps_[w].issued != issues_[w / 4].size()) return "has warpgroups whose warps issued different products";
  }
  return nullptr;
}

const TensorMap& read_map(const CUtensorMap* map, int rank) {
  if (reinterpret_cast<std::uintptr_t>(map) % 64 != 0) fail_with("uses a tensor map that is not aligned to 64 bytes");
  const auto& m = *reinterpret_cast<const TensorMap*>(map);
  if (m.mark != kMapMark) fail_with("uses a tensor map that was not encoded");
  if (m.rank != rank) fail_with(concat("copies a tile of ", rank, " axes by a tensor map of ", int{m.rank}));
  return m;
}

}  // namespace eq::simt

CUresult cuTensorMapEncodeTiled(CUtensorMap* map, CUtensorMapDataType type, cuuint32_t rank, void* address,
                                const cuuint64_t* sizes, const cuuint64_t* strides, const cuuint32_t* box,
                                const cuuint32_t* steps, CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle,
                                CUtensorMapL2promotion, CUtensorMapFloatOOBfill) {
  constexpr std::uint64_t kElement = 2;
  if (type != CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 || interleave != CU_TENSOR_MAP_INTERLEAVE_NONE || rank < 1 || rank > 5 ||
      reinterpret_cast<std::uintptr_t>(map) % 64 != 0 || reinterpret_cast<std::uintptr_t>(address) % 16 != 0)
    return CUDA_ERROR_INVALID_VALUE;
  eq::simt::TensorMap m{};
  m.data = static_cast<const std::byte*>(address);
  for (cuuint32_t i = 0; i < rank; ++i) {
    if (sizes[i] < 1 || sizes[i] > UINT32_MAX || box[i] < 1 || box[i] > 256 || (i > 0 && steps[i] != 1))
      return CUDA_ERROR_INVALID_VALUE;
    m.sizes[i] = static_cast<std::uint32_t>(sizes[i]);
    m.box[i] = box[i];
  }
  for (cuuint32_t i = 0; i + 1 < rank; ++i) {
    // A stride covers the axis before it.
    const std::uint64_t least = i == 0 ? sizes[0] * kElement : strides[i - 1] * sizes[i];
    if (strides[i] % 16 != 0 || strides[i] >= std::uint64_t{1} << 40 || strides[i] < least)
      return CUDA_ERROR_INVALID_VALUE;
    m.strides[i] = strides[i];
  }
  const std::uint64_t row = box[0] * kElement;
  if (row % 16 != 0 || (swizzle != CU_TENSOR_MAP_SWIZZLE_NONE && row > std::uint64_t{16} << swizzle))
    return CUDA_ERROR_INVALID_VALUE;
  m.mark = eq::simt::kMapMark;
  m.rank = static_cast<std::uint8_t>(rank);
  m.element = kElement;
  m.swizzle = static_cast<std::uint8_t>(swizzle);
  *map = {};
  *reinterpret_cast<eq::simt::TensorMap*>(map) = m;
  return CUDA_SUCCESS;
}
