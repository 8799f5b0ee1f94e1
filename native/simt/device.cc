#include "simt/device.h"

#include <cstring>

#include <sys/mman.h>
#include <unistd.h>

#include "kernels/elementwise/transfer/op.h"
#include "runtime/cuda/fault.h"

namespace eq {

namespace simt {

namespace {
/// What cudaMalloc promises.
constexpr std::size_t kAlignment = 256;
constexpr int kPoison = 0xff;

std::size_t page_size() {
  static const auto size = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  return size;
}
}  // namespace

SimtDevice::SimtDevice() { memory_ = std::make_unique<CachingAllocator>(*this, std::size_t{8} << 30); }

SimtDevice::~SimtDevice() { memory_.reset(); }

std::shared_ptr<SimtDevice> SimtDevice::create() { return std::shared_ptr<SimtDevice>(new SimtDevice()); }

void* SimtDevice::raw_allocate(std::size_t bytes) {
  const std::size_t page = page_size();
  const std::size_t room = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  const std::size_t body = (room + page - 1) / page * page;
  // One inaccessible page on either side; the end of the memory is as near to the upper one as alignment permits.
  void* p = mmap(nullptr, body + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) return nullptr;
  auto* map = static_cast<std::byte*>(p);
  mprotect(map + page, body, PROT_READ | PROT_WRITE);
  std::memset(map + page, kPoison, body);
  std::byte* data = map + page + body - room;
  allocations_[data] = {map, body + 2 * page, bytes};
  return data;
}

void SimtDevice::raw_free(void* p, std::size_t) {
  const auto it = allocations_.find(static_cast<std::byte*>(p));
  const Allocation a = it->second;
  // What alignment leaves between the tensor and its page's ends must be as it was.
  const std::byte *begin = a.map + page_size(), *end = a.map + a.map_bytes - page_size();
  const auto poisoned = [](const std::byte* from, const std::byte* to) {
    for (; from != to; ++from)
      if (*from != static_cast<std::byte>(kPoison)) return false;
    return true;
  };
  if (!poisoned(begin, it->first) || !poisoned(it->first + a.bytes, end)) {
    // Frees happen in destructors, so the next read tells it.
    if (overrun_.empty()) overrun_ = concat("a kernel wrote outside a tensor of ", a.bytes, " bytes");
  }
  munmap(a.map, a.map_bytes);
  allocations_.erase(it);
}

std::string SimtDevice::describe_address(std::uintptr_t address) const {
  const auto at = reinterpret_cast<std::byte*>(address);
  for (const auto& [data, a] : allocations_) {
    if (at < a.map || at >= a.map + a.map_bytes) continue;
    return at < data ? concat(data - at, " bytes before a tensor of ", a.bytes, " bytes")
                     : concat(at - data, " bytes into a tensor of ", a.bytes, " bytes");
  }
  return "no tensor's memory";
}

void SimtDevice::upload(const Tensor& t, const void* source, DType source_dtype) {
  check_type(source_dtype == t.dtype || (is_float(source_dtype) && is_float(t.dtype)), "cannot copy ",
             dtype_name(source_dtype), " values to a ", dtype_name(t.dtype), " tensor");
  transfer(t.data(), t.dtype, source, source_dtype, t.numel());
}

void SimtDevice::read(const Tensor& t, void* destination, std::function<void(std::string)> done) {
  transfer(destination, t.dtype == DType::BF16 ? DType::F32 : t.dtype, t.data(), t.dtype, t.numel());
  done(take_fault());
}

void SimtDevice::synchronize() {
  if (std::string fault = take_fault(); !fault.empty()) throw std::runtime_error(fault);
}

void SimtDevice::copy(const Tensor& to, const Tensor& from) {
  if (to.bytes() > 0) std::memcpy(to.data(), from.data(), from.bytes());
}

Fault SimtDevice::fault_site(const OpInfo& info, const char* message) {
  sites_.push_back({info, message});
  return {&record_, static_cast<unsigned>(sites_.size() - 1)};
}

std::string SimtDevice::take_fault() {
  std::string text = std::exchange(overrun_, {});
  if (record_.raised && text.empty()) {
    const Site& site = sites_[record_.site];
    text = fault_message(site.info, site.message, record_);
  }
  record_ = {};
  sites_.clear();
  return text;
}

}  // namespace simt

int multiprocessors(Device&) { return 4; }
int compute_capability(Device&) { return 80; }

Tensor stage(Device& device, const void* table, std::size_t bytes) {
  Tensor t = device.empty(DType::Bool, {static_cast<std::int64_t>(bytes)});
  std::memcpy(t.data(), table, bytes);
  return t;
}

unsigned* tickets(Device& device) { return simt::simt_device(device).tickets(); }

void fill_bytes(Device&, void* p, int value, std::size_t bytes) { std::memset(p, value, bytes); }

Fault fault_site(Device& device, const OpInfo& info, const char* message) {
  return simt::simt_device(device).fault_site(info, message);
}

}  // namespace eq
