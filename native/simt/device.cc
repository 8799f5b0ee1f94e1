#include "simt/device.h"

#include <cstdlib>
#include <cstring>

#include <sys/mman.h>
#include <unistd.h>

#include "kernels/elementwise/transfer/op.h"
#include "runtime/cuda/fault.h"
#include "simt/scheduler.h"

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

/// What one block may have (CUDA programming guide, "Technical Specifications per Compute Capability").
std::size_t most_shared(int capability) { return std::size_t{capability >= 90 ? 227u : 163u} << 10; }

/// Kernels for sm_80 and later run by default; 90 adds those with clusters and, where asked for, Hopper's products.
int wanted_capability() {
  const char* wanted = std::getenv("EQUIPOISE_SIMT_CAPABILITY");
  if (!wanted) return 80;
  const std::string value = wanted;
  check_type(value == "80" || value == "90", "EQUIPOISE_SIMT_CAPABILITY: expected 80 or 90, got \"", value, "\"");
  return value == "90" ? 90 : 80;
}
}  // namespace

SimtDevice::SimtDevice() : capability_(wanted_capability()) {
  memory_ = std::make_unique<CachingAllocator>(*this, std::size_t{8} << 30);
  tickets_ = static_cast<unsigned*>(raw_allocate(kTickets * sizeof(unsigned)));
  std::memset(tickets_, 0, kTickets * sizeof(unsigned));
}

SimtDevice::~SimtDevice() {
  abandon_recording();
  raw_free(tickets_, kTickets * sizeof(unsigned));
  memory_.reset();
}

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

bool SimtDevice::owns(std::uintptr_t address) const {
  const auto* at = reinterpret_cast<std::byte*>(address);
  const auto holds = [at](const Allocation& a) { return at >= a.map && at < a.map + a.map_bytes; };
  // Allocations are ordered by where their data begin, which may be after what is looked for.
  const auto next = allocations_.upper_bound(const_cast<std::byte*>(at));
  return (next != allocations_.end() && holds(next->second)) ||
         (next != allocations_.begin() && holds(std::prev(next)->second));
}

std::string SimtDevice::describe(std::uintptr_t address) const {
  const auto at = reinterpret_cast<std::byte*>(address);
  for (const auto& [data, a] : allocations_) {
    if (at < a.map || at >= a.map + a.map_bytes) continue;
    return at < data ? concat(data - at, " bytes before a tensor of ", a.bytes, " bytes")
                     : concat(at - data, " bytes into a tensor of ", a.bytes, " bytes");
  }
  return "no tensor's memory";
}

/// Work in order, and what its memory belongs to.
class SimtDevice::Tape final : public Recording {
 public:
  explicit Tape(std::shared_ptr<SimtDevice> owner) : device(std::move(owner)) {}
  ~Tape() override {
    work.clear();
    device->memory().release_pool(pool);
  }
  void replay() override {
    check_type(!device->recording(), "a recording cannot run while another is made");
    for (const auto& step : work) step();
  }

  std::shared_ptr<SimtDevice> device;
  std::uint32_t pool = 0;
  std::vector<std::function<void()>> work;
  std::vector<std::shared_ptr<Buffer>> kept;
};

void SimtDevice::begin_recording() {
  check_type(!recording_, "a graph is being recorded already");
  auto tape = std::make_unique<Tape>(std::static_pointer_cast<SimtDevice>(shared_from_this()));
  tape->pool = memory_->begin_pool();
  tape_ = std::move(tape);
  recording_ = true;
}

std::unique_ptr<Recording> SimtDevice::end_recording() {
  check_type(recording_, "no graph is being recorded");
  recording_ = false;
  memory_->end_pool();
  return std::move(tape_);
}

void SimtDevice::abandon_recording() {
  if (!recording_) return;
  recording_ = false;
  memory_->end_pool();
  tape_.reset();
}

void SimtDevice::keep(const std::shared_ptr<Buffer>& buffer) {
  if (recording_ && buffer->block.pool != tape_->pool) tape_->kept.push_back(buffer);
}

void SimtDevice::queue(std::function<void()> work) {
  if (recording_)
    tape_->work.push_back(std::move(work));
  else
    work();
}

void SimtDevice::put(void* to, std::vector<std::byte> bytes) {
  queue([to, bytes = std::move(bytes)] { std::memcpy(to, bytes.data(), bytes.size()); });
}

void SimtDevice::upload(const Tensor& t, const void* source, DType source_dtype) {
  check_type(source_dtype == t.dtype || (is_float(source_dtype) && is_float(t.dtype)), "cannot copy ",
             dtype_name(source_dtype), " values to a ", dtype_name(t.dtype), " tensor");
  std::vector<std::byte> bytes(t.bytes());
  transfer(bytes.data(), t.dtype, source, source_dtype, t.numel());
  put(t.data(), std::move(bytes));
}

void SimtDevice::copy(const Tensor& to, const Tensor& from) {
  queue([y = to.data(), x = from.data(), n = from.bytes()] { std::memcpy(y, x, n); });
}

void SimtDevice::read(const Tensor& t, void* destination, std::function<void(std::string)> done) {
  if (recording_) {
    done("read: values exist only when the graph that is being recorded runs");
    return;
  }
  transfer(destination, t.dtype == DType::BF16 ? DType::F32 : t.dtype, t.data(), t.dtype, t.numel());
  done(take_fault());
}

void SimtDevice::synchronize() {
  if (std::string fault = take_fault(); !fault.empty()) throw std::runtime_error(fault);
}

Fault SimtDevice::fault_site(const OpInfo& info, const char* message) {
  const auto [it, fresh] = site_numbers_.try_emplace(info.describe() + message, static_cast<unsigned>(sites_.size()));
  if (fresh) sites_.push_back({info, message});
  return {&record_, it->second};
}

std::string SimtDevice::take_fault() {
  std::string text = std::exchange(overrun_, {});
  if (record_.raised && text.empty()) {
    const Site& site = sites_[record_.site];
    text = fault_message(site.info, site.message, record_);
  }
  record_ = {};
  return text;
}

void launch(Device& device, const OpInfo& info, const Launch& launch, void (*thread)(void*),
            std::shared_ptr<void> context) {
  if (launch.grid_x == 0 || launch.grid_y == 0 || launch.grid_z == 0) return;
  SimtDevice& own = simt_device(device);
  own.queue([=, &own] {
    run_launch(info.describe(), launch, most_shared(own.compute_capability()), thread, context.get(), own);
  });
}

}  // namespace simt

int multiprocessors(Device&) { return 4; }
int compute_capability(Device& device) { return simt::simt_device(device).compute_capability(); }

Tensor stage(Device& device, const void* table, std::size_t bytes) {
  Tensor t = device.empty(DType::Bool, {static_cast<std::int64_t>(bytes)});
  const auto* first = static_cast<const std::byte*>(table);
  simt::simt_device(device).put(t.data(), {first, first + bytes});
  return t;
}

unsigned* tickets(Device& device) { return simt::simt_device(device).tickets(); }

void fill_bytes(Device& device, void* p, int value, std::size_t bytes) {
  simt::simt_device(device).queue([=] { std::memset(p, value, bytes); });
}

Fault fault_site(Device& device, const OpInfo& info, const char* message) {
  return simt::simt_device(device).fault_site(info, message);
}

}  // namespace eq
