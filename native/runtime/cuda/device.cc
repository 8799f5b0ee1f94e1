#include "runtime/cuda/device.h"

#include "runtime/cuda/external.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "runtime/cuda/fault.h"
#include "runtime/cuda/graph.h"

namespace eq {

namespace {

std::string version_text(int version) { return concat(version / 1000, ".", version % 1000 / 10); }

bool flag(const char* variable) {
  const char* value = std::getenv(variable);
  return value && *value && std::strcmp(value, "0") != 0;
}

}  // namespace

void check_cuda(cudaError_t status, const char* op) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // told here; not to be found again by the next launch
  check_range(status != cudaErrorMemoryAllocation, op, ": the GPU is out of memory");
  throw std::runtime_error(concat(op, ": ", cudaGetErrorString(status), " (", cudaGetErrorName(status), ")"));
}

std::string cuda_unusable() {
  int driver = 0, runtime = 0, count = 0;
  cudaDriverGetVersion(&driver);
  cudaRuntimeGetVersion(&runtime);
  const cudaError_t status = cudaGetDeviceCount(&count);
  cudaGetLastError();
  if (driver == 0) return "no NVIDIA driver answers on this machine";
  // A driver runs programs of its own major version, older or newer within it.
  if (status == cudaErrorInsufficientDriver || driver / 1000 < runtime / 1000)
    return concat("the NVIDIA driver supports CUDA ", version_text(driver), ", this addon was built with CUDA ",
                  version_text(runtime), ": update the driver, or run \"npm run build:native\" with an older toolkit");
  if (status == cudaErrorNoDevice || (status == cudaSuccess && count == 0)) return "the NVIDIA driver finds no GPU";
  if (status != cudaSuccess) return concat("the NVIDIA driver answers with an error: ", cudaGetErrorString(status));
  return {};
}

int cuda_device_count() {
  int count = 0;
  return cuda_unusable().empty() && cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
}

CudaDevice::CudaDevice(int ordinal)
    : ordinal_(ordinal), synchronous_(flag("EQUIPOISE_CUDA_SYNC")), exact_(flag("EQUIPOISE_CUDA_EXACT")) {}

void CudaDevice::open() {
  const std::string unusable = cuda_unusable();
  check_type(unusable.empty(), "device cuda:", ordinal_, ": ", unusable);
  const int count = cuda_device_count();
  check_type(ordinal_ >= 0 && ordinal_ < count, "device cuda:", ordinal_, ": this machine has ", count,
             count == 1 ? " GPU" : " GPUs");
  check_cuda(cudaSetDevice(ordinal_), "device");
  check_cuda(cudaGetDeviceProperties(&properties_, ordinal_), "device");
  check_type(properties_.major >= 8, "device cuda:", ordinal_, ": ", properties_.name, " has compute capability ",
             properties_.major, ".", properties_.minor, ", 8.0 or later is needed");
  check_cuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "device");
  void* record = nullptr;
  constexpr std::size_t kRecordBytes = sizeof(FaultRecord) + kTickets * sizeof(unsigned);
  check_cuda(cudaMalloc(&record, kRecordBytes), "device");
  record_ = static_cast<FaultRecord*>(record);
  fill(record_, 0, kRecordBytes);
  completions_ = std::make_unique<Completions>(ordinal_, events_);
  std::size_t free = 0, total = 0;
  check_cuda(cudaMemGetInfo(&free, &total), "device");
  memory_ = std::make_unique<CachingAllocator>(*this, free / 20 * 19);
}

CudaDevice::~CudaDevice() {
  abandon_recording();
  wait_for(submitted_);
  completions_.reset();
  recycle_uploads(0);
  memory_.reset();
  // Neither is there where the device could not be opened.
  if (record_) cudaFree(record_);
  if (stream_) cudaStreamDestroy(stream_);
}

std::shared_ptr<CudaDevice> CudaDevice::create(int ordinal) {
  const std::shared_ptr<CudaDevice> device(new CudaDevice(ordinal));
  device->open();
  return device;
}

void* CudaDevice::raw_allocate(std::size_t bytes) {
  void* p = nullptr;
  // Never null, also for a tensor without elements.
  const cudaError_t status = cudaMalloc(&p, std::max<std::size_t>(bytes, 1));
  if (status == cudaErrorMemoryAllocation)
    cudaGetLastError();  // the allocator makes room, or tells
  else
    check_cuda(status, "allocation");
  return p;
}

void CudaDevice::raw_free(void* p, std::size_t) { note(cudaFree(p)); }

std::uint64_t CudaDevice::completed() const {
  // A stream that is recording must not be asked; nothing runs meanwhile, and recording began with an idle stream.
  if (!recording_ && completed_ != submitted_) {
    if (cudaStreamQuery(stream_) == cudaSuccess)
      completed_ = submitted_;
    else
      cudaGetLastError();
  }
  return recording_ ? submitted_ : completed_;
}

void CudaDevice::wait_for(std::uint64_t position) {
  if (recording_) return;
  if (position > completed_) {
    const cudaError_t status = cudaStreamSynchronize(stream_);
    note(status);
    completed_ = submitted_;
  }
  if (completions_) completions_->drain(position);
}

/// Keeps the first error that no call can throw.
void CudaDevice::note(cudaError_t status) {
  if (status == cudaSuccess) return;
  cudaGetLastError();
  std::lock_guard lock(fault_mutex_);
  if (fault_.empty())
    fault_ = concat("the GPU stopped with \"", cudaGetErrorString(status),
                    "\"; set EQUIPOISE_CUDA_SYNC=1 to learn in which op, and start again");
}

std::string CudaDevice::fault_of(cudaError_t status, const FaultRecord* found) {
  note(status);
  {
    std::lock_guard lock(fault_mutex_);
    if (!fault_.empty()) {
      // A broken device stays broken; other faults are told once.
      std::string text = fault_;
      if (status == cudaSuccess) fault_.clear();
      return text;
    }
  }
  if (!found || !found->raised) return {};
  std::lock_guard lock(sites_mutex_);
  const Site& site = sites_[found->site < sites_.size() ? found->site : 0];
  return fault_message(site.info, site.message, *found);
}

Fault CudaDevice::fault_site(const OpInfo& info, const char* message) {
  faults_possible_ = true;
  const std::string key = info.describe() + message;
  std::lock_guard lock(sites_mutex_);
  const auto [it, fresh] = site_numbers_.try_emplace(key, static_cast<unsigned>(sites_.size()));
  if (fresh) sites_.push_back({info, message});
  return {record_, it->second};
}

void CudaDevice::synchronize() {
  std::string message;
  Tensor nothing = empty(DType::Bool, {0});
  read(nothing, nullptr, [&message](std::string m) { message = std::move(m); });
  wait_for(submitted_);
  if (!message.empty()) throw std::runtime_error(message);
}

void CudaDevice::launch(const OpInfo& info, const void* kernel, const Launch& launch, void** parameters) {
  if (launch.grid_x == 0 || launch.grid_y == 0 || launch.grid_z == 0) return;
  constexpr unsigned kAlways = 48u << 10;
  if (launch.shared > kAlways) {
    unsigned& permitted = shared_[kernel];
    if (permitted < launch.shared) {
      check_cuda(
          cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(launch.shared)),
          info.name);
      permitted = launch.shared;
    }
  }
  const bool timed = profiler_.enabled() && !recording_;
  if (timed) profile_.begin(stream_, info, calls_);
  const cudaError_t status = cudaLaunchKernel(kernel, dim3(launch.grid_x, launch.grid_y, launch.grid_z),
                                              dim3(launch.block), parameters, launch.shared, stream_);
  ++submitted_;
  if (status != cudaSuccess) cudaGetLastError();  // told below; the range ends all the same
  if (timed) profile_.end(stream_);
  if (status != cudaSuccess) check_cuda(status, info.describe().c_str());
  if (synchronous_ && !recording_) check_cuda(cudaStreamSynchronize(stream_), info.describe().c_str());
}

bool CudaDevice::launch_external(const OpInfo& info, const std::function<bool()>& queue) {
  const bool timed = profiler_.enabled() && !recording_;
  if (timed) profile_.begin(stream_, info, calls_);
  const bool queued = queue();
  ++submitted_;
  if (timed) profile_.end(stream_);
  if (synchronous_ && !recording_) check_cuda(cudaStreamSynchronize(stream_), info.describe().c_str());
  return queued;
}

void CudaDevice::begin_recording() {
  check_type(!recording_, "a graph is being recorded already");
  synchronize();
  auto graph = std::make_unique<Graph>(std::static_pointer_cast<CudaDevice>(shared_from_this()));
  // Relaxed: the allocator may ask for memory meanwhile.
  check_cuda(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeRelaxed), "graph");
  graph->pool = memory_->begin_pool();
  graph_ = std::move(graph);
  recording_ = true;
}

std::unique_ptr<Recording> CudaDevice::end_recording() {
  check_type(recording_, "no graph is being recorded");
  recording_ = false;
  memory_->end_pool();
  std::unique_ptr<Graph> graph = std::move(graph_);
  cudaGraph_t recorded = nullptr;
  check_cuda(cudaStreamEndCapture(stream_, &recorded), "graph");
  const cudaError_t status = cudaGraphInstantiate(&graph->executable, recorded, 0);
  cudaGraphDestroy(recorded);
  check_cuda(status, "graph");
  graph->faults_possible = std::exchange(faults_possible_, false);
  return graph;
}

void CudaDevice::abandon_recording() {
  if (!recording_) return;
  recording_ = false;
  memory_->end_pool();
  cudaGraph_t recorded = nullptr;
  if (cudaStreamEndCapture(stream_, &recorded) == cudaSuccess && recorded) cudaGraphDestroy(recorded);
  cudaGetLastError();
  graph_.reset();
}

void CudaDevice::keep(const std::shared_ptr<Buffer>& buffer) {
  // Blocks of the graph's own pool stay with it anyway, and may be reused within it.
  if (recording_ && buffer->block.pool != graph_->pool) graph_->kept.insert(buffer);
}

void CudaDevice::replay(Graph& graph) {
  check_type(!recording_, "a graph cannot run while another is being recorded");
  check_cuda(cudaGraphLaunch(graph.executable, stream_), "graph");
  ++submitted_;
  faults_possible_ |= graph.faults_possible;
}

CudaDevice::Graph::~Graph() {
  // What it uses may still be at work; the blocks go back in stream order.
  if (executable) {
    device->wait_for(device->submitted());
    cudaGraphExecDestroy(executable);
  }
  for (Pinned block : staging) device->pinned_.give_back(block);
  if (pool != 0) device->memory().release_pool(pool);
}

void CudaDevice::Graph::replay() { device->replay(*this); }

int multiprocessors(Device& device) { return cuda(device).properties().multiProcessorCount; }
int compute_capability(Device& device) {
  return 10 * cuda(device).properties().major + cuda(device).properties().minor;
}
bool launch_external(Device& device, const OpInfo& info, const std::function<bool()>& queue) {
  return cuda(device).launch_external(info, queue);
}
cudaStream_t stream(Device& device) { return cuda(device).stream(); }
void* external_stream(Device& device) { return cuda(device).stream(); }
std::string device_model(Device& device) { return cuda(device).properties().name; }
unsigned* tickets(Device& device) { return cuda(device).tickets(); }

Tensor stage(Device& device, const void* table, std::size_t bytes) { return cuda(device).stage(table, bytes); }
void fill_bytes(Device& device, void* p, int value, std::size_t bytes) { cuda(device).fill(p, value, bytes); }
Fault fault_site(Device& device, const OpInfo& info, const char* message) {
  return cuda(device).fault_site(info, message);
}

namespace detail {
void launch(Device& device, const OpInfo& info, const void* kernel, const Launch& launch, void** parameters) {
  cuda(device).launch(info, kernel, launch, parameters);
}
}  // namespace detail

}  // namespace eq
