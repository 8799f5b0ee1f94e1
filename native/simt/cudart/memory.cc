// Device and page-locked memory: model.h. Every block of device memory ends at an inaccessible page and starts as NaN;
// between the operations of a stream none can be touched at all.
#include <csignal>
#include <cstdio>
#include <cstring>

#include <sys/mman.h>
#include <unistd.h>

#include "simt/cudart/model.h"

namespace eq::cudart {

namespace {

/// What cudaMalloc promises.
constexpr std::size_t kAlignment = 256;
constexpr std::byte kPoison{0xff};
constexpr std::size_t kPoisoned = std::size_t{8} << 20;
/// Blocks that stay inaccessible after they were freed.
constexpr std::size_t kFreed = 512;

std::size_t page() {
  static const auto size = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  return size;
}
std::size_t round_up(std::size_t n, std::size_t step) { return (n + step - 1) / step * step; }

void protect(const Memory& m, int how) { mprotect(m.map + page(), m.map_bytes - 2 * page(), how); }

struct sigaction others;

/// Tells of the host's accesses to device memory. While a kernel runs the scheduler's own handler is in place.
void on_fault(int, siginfo_t* info, void*) {
  const auto address = reinterpret_cast<std::uintptr_t>(info->si_addr);
  for (const auto& [data, m] : model().device_memory)
    if (address - reinterpret_cast<std::uintptr_t>(m.map) < m.map_bytes)
      violation("host code", "touches " + model().describe(address));
  sigaction(SIGSEGV, &others, nullptr);
}

void watch_host() {
  static const bool once = [] {
    struct sigaction action{};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(SIGSEGV, &action, &others);
    return true;
  }();
  (void)once;
}

/// Maps `bytes` so that they end at an inaccessible page, with another before them.
std::byte* map_block(std::size_t bytes, int device, Memory& m) {
  const std::size_t room = round_up(std::max<std::size_t>(bytes, 1), kAlignment), body = round_up(room, page());
  void* p = mmap(nullptr, body + 2 * page(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) return nullptr;
  m = {static_cast<std::byte*>(p), body + 2 * page(), bytes, device};
  protect(m, PROT_READ | PROT_WRITE);
  // Of a large block the ends: the rest would cost more than all that is done with it.
  for (std::byte* part : {m.map + page(), m.map + page() + body - std::min(body, kPoisoned)})
    std::memset(part, static_cast<int>(kPoison), std::min(body, kPoisoned));
  return m.map + page() + body - room;
}

/// What alignment leaves at the block's ends must be as it was.
bool overrun(const std::byte* data, const Memory& m) {
  const auto poisoned = [](const std::byte* from, const std::byte* to) {
    for (; from != to; ++from)
      if (*from != kPoison) return false;
    return true;
  };
  return !poisoned(m.map + page(), data) || !poisoned(data + m.bytes, m.map + m.map_bytes - page());
}

}  // namespace

DeviceAccess::DeviceAccess() : outermost_(!model().running) {
  if (!outermost_) return;
  model().running = true;
  for (const auto& [data, m] : model().device_memory) protect(m, PROT_READ | PROT_WRITE);
}
DeviceAccess::~DeviceAccess() {
  if (!outermost_) return;
  for (const auto& [data, m] : model().device_memory) protect(m, PROT_NONE);
  model().running = false;
}

std::uint64_t hash_of(const std::byte* data, std::size_t bytes) {
  std::uint64_t hash = bytes, word = 0;
  for (std::size_t at = 0; at < bytes; at += sizeof word) {
    std::memcpy(&word, data + at, std::min(sizeof word, bytes - at));
    hash = (hash ^ word) * 0x9e3779b97f4a7c15u;
    hash ^= hash >> 29;
  }
  return hash;
}

bool within(const std::map<std::byte*, Memory>& blocks, const void* p, std::size_t bytes) {
  const auto at = static_cast<std::byte*>(const_cast<void*>(p));
  auto it = blocks.upper_bound(at);
  if (it == blocks.begin()) return false;
  --it;
  return at + bytes <= it->first + std::max<std::size_t>(it->second.bytes, 1);
}

bool Model::owns(std::uintptr_t address) const {
  const auto at = reinterpret_cast<std::byte*>(address);
  const auto holds = [at](const Memory& m) { return at >= m.map && at < m.map + m.map_bytes; };
  // Blocks are ordered by where their data begin, which may be after what is looked for.
  const auto next = device_memory.upper_bound(at);
  return (next != device_memory.end() && holds(next->second)) ||
         (next != device_memory.begin() && holds(std::prev(next)->second));
}

std::string Model::describe(std::uintptr_t address) const {
  const auto at = reinterpret_cast<std::byte*>(address);
  const auto inside = [at](const Memory& m) { return at >= m.map && at < m.map + m.map_bytes; };
  for (const auto& [data, m] : device_memory) {
    if (!inside(m)) continue;
    const std::string block = "a block of " + std::to_string(m.bytes) + " bytes of device memory";
    return at < data ? std::to_string(data - at) + " bytes before " + block
                     : std::to_string(at - data) + " bytes into " + block;
  }
  for (const Memory& m : freed)
    if (inside(m)) return "device memory that has been freed";
  return "no device memory";
}

}  // namespace eq::cudart

using namespace eq::cudart;

extern "C" {

cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
  const Entry entry("cudaMemGetInfo", kDevice);
  if (entry.refused()) return entry.result();
  *free = model().capacity - model().used[entry.device()];
  *total = model().capacity;
  return cudaSuccess;
}

cudaError_t cudaMalloc(void** p, std::size_t bytes) {
  const Entry entry("cudaMalloc", kDevice | kSafety);
  if (entry.refused()) return entry.result();
  Model& m = model();
  if (bytes == 0) violation(entry.call(), "gives no address for 0 bytes");
  if (m.used[entry.device()] + bytes > m.capacity) return entry.give(cudaErrorMemoryAllocation);
  watch_host();
  Memory block;
  std::byte* const data = map_block(bytes, entry.device(), block);
  if (!data) return entry.give(cudaErrorMemoryAllocation);
  if (!m.running) protect(block, PROT_NONE);
  m.device_memory[data] = block;
  m.used[entry.device()] += bytes;
  *p = data;
  return cudaSuccess;
}

cudaError_t cudaFree(void* p) {
  const Entry entry("cudaFree", kDevice | kSafety);
  if (!p) return cudaSuccess;
  Model& m = model();
  const auto it = m.device_memory.find(static_cast<std::byte*>(p));
  if (it == m.device_memory.end()) violation(entry.call(), "no device memory begins here");
  Memory block = it->second;
  protect(block, PROT_READ | PROT_WRITE);
  if (!entry.refused() && overrun(it->first, block))
    violation(entry.call(), "something wrote outside a block of " + std::to_string(block.bytes) + " bytes");
  m.used[block.device] -= block.bytes;
  m.device_memory.erase(it);
  madvise(block.map, block.map_bytes, MADV_DONTNEED);
  mprotect(block.map, block.map_bytes, PROT_NONE);
  m.freed.push_back(block);
  if (m.freed.size() > kFreed) {
    munmap(m.freed.front().map, m.freed.front().map_bytes);
    m.freed.pop_front();
  }
  return entry.result();
}

cudaError_t cudaHostAlloc(void** p, std::size_t bytes, unsigned) {
  const Entry entry("cudaHostAlloc", kDevice | kSafety);
  if (entry.refused()) return entry.result();
  Memory block;
  std::byte* const data = map_block(bytes, entry.device(), block);
  if (!data) return entry.give(cudaErrorMemoryAllocation);
  model().pinned[data] = block;
  *p = data;
  return cudaSuccess;
}

cudaError_t cudaFreeHost(void* p) {
  const Entry entry("cudaFreeHost", kDevice | kSafety);
  if (!p) return cudaSuccess;
  Model& m = model();
  const auto it = m.pinned.find(static_cast<std::byte*>(p));
  if (it == m.pinned.end()) violation(entry.call(), "no page-locked memory begins here");
  const std::byte *begin = it->first, *end = begin + it->second.bytes;
  const auto uses = [&](const Operation& operation) {
    const bool reads = operation.source.data >= begin && operation.source.data < end;
    return reads || (operation.target >= begin && operation.target < end);
  };
  for (const cudaStream_t stream : m.streams) {
    for (const auto& operation : stream->pending)
      if (uses(*operation)) violation(entry.call(), "a copy that is under way uses this memory");
    if (!stream->capture) continue;
    for (const auto& operation : stream->capture->operations)
      if (uses(*operation)) violation(entry.call(), "a copy that is being recorded uses this memory");
  }
  for (const cudaGraphExec_t executable : m.executables)
    for (const auto& operation : executable->operations)
      if (uses(*operation)) violation(entry.call(), "a graph copies from this memory");
  munmap(it->second.map, it->second.map_bytes);
  m.pinned.erase(it);
  return entry.result();
}

}  // extern "C"
