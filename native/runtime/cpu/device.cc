#include "device.h"

#include <cstdlib>
#include <cstring>
#include <vector>
#if defined(__linux__)
#include <sys/mman.h>
#include <unistd.h>
#endif

// Large blocks are mapped, so that they go back to the system one by one. Huge pages are not asked for: products are no
// faster with them, and where a hypervisor has to provide the memory, weights load at half the speed. The address
// sanitizer watches the heap only.
#if defined(__linux__) && !defined(__SANITIZE_ADDRESS__)
#define EQ_MAPS_LARGE_BLOCKS 1
#else
#define EQ_MAPS_LARGE_BLOCKS 0
#endif

#include "kernels/elementwise/transfer/op.h"

namespace eq {

namespace {

[[maybe_unused]] constexpr std::size_t kLargeBlock = std::size_t{2} << 20;

#if EQ_MAPS_LARGE_BLOCKS
std::size_t whole_pages(std::size_t bytes) {
  static const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  return (bytes + page - 1) / page * page;
}
#endif

ThreadPool& shared_pool() {
  // Never destroyed: worker threads of Node may outlive static destructors.
  static ThreadPool* pool = new ThreadPool(ThreadPool::default_threads());
  return *pool;
}

std::size_t default_limit() {
#if defined(__linux__)
  const long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
  if (pages > 0 && size > 0) return static_cast<std::size_t>(pages) * static_cast<std::size_t>(size) / 10 * 9;
#endif
  return std::size_t{1} << 40;
}

}  // namespace

CpuDevice::CpuDevice() : pool_(shared_pool()), queue_(profiler_) {
  memory_ = std::make_unique<CachingAllocator>(*this, default_limit());
}

CpuDevice::~CpuDevice() {
  queue_.wait_for(queue_.submitted());
  memory_.reset();
}

std::shared_ptr<CpuDevice> CpuDevice::create() { return std::shared_ptr<CpuDevice>(new CpuDevice()); }

void* CpuDevice::raw_allocate(std::size_t bytes) {
#if EQ_MAPS_LARGE_BLOCKS
  if (bytes >= kLargeBlock) {
    void* p = mmap(nullptr, whole_pages(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? nullptr : p;
  }
#endif
  // 64 bytes is a cache line and an AVX-512 register; the allocator's sizes are multiples of it, as aligned_alloc
  // demands.
  return std::aligned_alloc(64, bytes);
}

void CpuDevice::raw_free(void* p, [[maybe_unused]] std::size_t bytes) {
#if EQ_MAPS_LARGE_BLOCKS
  if (bytes >= kLargeBlock) {
    munmap(p, whole_pages(bytes));
    return;
  }
#endif
  std::free(p);
}

void CpuDevice::upload(const Tensor& t, const void* source, DType source_dtype) {
  check_type(source_dtype == t.dtype || (is_float(source_dtype) && is_float(t.dtype)), "cannot copy ",
             dtype_name(source_dtype), " values to a ", dtype_name(t.dtype), " tensor");
  if (t.buffer->block.last_use <= completed()) {
    transfer(t.data(), t.dtype, source, source_dtype, t.numel());
    return;
  }
  // The block was reused while queued kernels still read its old contents: write in order, from a copy.
  std::vector<std::byte> staged(t.bytes());
  transfer(staged.data(), t.dtype, source, source_dtype, t.numel());
  launch({"Upload", {t.shape}, 0, 2.0 * static_cast<double>(t.bytes())},
         [to = t.data(), staged = std::move(staged)](ThreadPool&) { std::memcpy(to, staged.data(), staged.size()); });
}

void CpuDevice::read(const Tensor& t, void* destination, std::function<void(std::string)> done) {
  const DType host = t.dtype == DType::BF16 ? DType::F32 : t.dtype;
  launch(
      {"Read", {t.shape}, 0, 2.0 * static_cast<double>(t.bytes())},
      [this, from = t.data(), destination, host, stored = t.dtype, n = t.numel(), done = std::move(done)](ThreadPool&) {
        transfer(destination, host, from, stored, n);
        done(queue_.take_fault());
      });
}

void CpuDevice::synchronize() {
  queue_.wait_for(queue_.submitted());
  if (std::string fault = queue_.take_fault(); !fault.empty()) throw std::runtime_error(fault);
}

}  // namespace eq
