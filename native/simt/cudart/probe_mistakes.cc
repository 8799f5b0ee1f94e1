// What the model of the CUDA runtime must refuse: each probe is one mistake, against the interface alone.
#include <cstring>
#include <string>
#include <thread>

#include "simt/cudart/model.h"
#include "simt/cudart/probe.h"

namespace eq {

namespace {

/// A stream with device and page-locked memory.
struct Setting {
  cudaStream_t stream = nullptr;
  cudaEvent_t event = nullptr;
  void *device = nullptr, *pinned = nullptr;
  static constexpr std::size_t kBytes = 4096;

  Setting() {
    cudaSetDevice(1);
    cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
    cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
    cudaMalloc(&device, kBytes);
    cudaHostAlloc(&pinned, kBytes, cudaHostAllocPortable);
    std::memset(pinned, 1, kBytes);
  }
  void upload() const { cudaMemcpyAsync(device, pinned, kBytes, cudaMemcpyHostToDevice, stream); }
  void begin(cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed) const { cudaStreamBeginCapture(stream, mode); }
  cudaGraphExec_t graph() const {
    begin();
    upload();
    cudaGraph_t recorded = nullptr;
    cudaGraphExec_t executable = nullptr;
    cudaStreamEndCapture(stream, &recorded);
    cudaGraphInstantiate(&executable, recorded, 0);
    cudaGraphDestroy(recorded);
    return executable;
  }
  void launch(dim3 grid, unsigned block, std::size_t shared = 0, unsigned cluster = 1) const {
    cudart::Kernel kernel{[] {}, "Probe", cluster};
    void* parameters[] = {&kernel, nullptr};
    cudaLaunchKernel(this, grid, {block}, parameters, shared, stream);
  }
};

void device_not_set(Setting& s) {
  std::thread([&] { cudaEventSynchronize(s.event); }).join();
}
void another_devices_stream(Setting& s) {
  cudaSetDevice(0);
  s.upload();
}
void default_stream(Setting& s) { cudaMemsetAsync(s.device, 0, 4, nullptr); }
void blocking_stream(Setting& s) { cudaStreamCreateWithFlags(&s.stream, 0); }
void destroyed_event(Setting& s) {
  cudaEventDestroy(s.event);
  cudaEventQuery(s.event);
}
void pageable_source(Setting& s) {
  char bytes[4] = {};
  cudaMemcpyAsync(s.device, bytes, 4, cudaMemcpyHostToDevice, s.stream);
}
void pageable_target(Setting& s) {
  char bytes[4];
  cudaMemcpyAsync(bytes, s.device, 4, cudaMemcpyDeviceToHost, s.stream);
}
void source_changes(Setting& s) {
  s.upload();
  std::memset(s.pinned, 2, 1);
  cudaStreamSynchronize(s.stream);
}
void source_freed(Setting& s) {
  s.upload();
  cudaFreeHost(s.pinned);
}
void graph_source_freed(Setting& s) {
  s.graph();
  cudaFreeHost(s.pinned);
}
void target_freed(Setting& s) {
  cudaMemcpyAsync(s.pinned, s.device, 4, cudaMemcpyDeviceToHost, s.stream);
  cudaFreeHost(s.pinned);
}
void copy_too_long(Setting& s) {
  cudaMemcpyAsync(static_cast<char*>(s.device) + 8, s.pinned, Setting::kBytes, cudaMemcpyHostToDevice, s.stream);
}
void copy_onto_itself(Setting& s) {
  cudaMemcpyAsync(static_cast<char*>(s.device) + 8, s.device, 64, cudaMemcpyDeviceToDevice, s.stream);
}
void memory_freed_too_early(Setting& s) {
  s.upload();
  cudaFree(s.device);
  cudaStreamSynchronize(s.stream);
}
void memory_freed_twice(Setting& s) {
  cudaFree(s.device);
  cudaFree(s.device);
}
void host_reads_device(Setting& s) { s.launch({*static_cast<volatile unsigned*>(s.device)}, 32); }
void nothing_allocated(Setting& s) { cudaMalloc(&s.device, 0); }
void query_while_recording(Setting& s) {
  s.begin();
  cudaStreamQuery(s.stream);
}
void wait_while_recording(Setting& s) {
  s.begin();
  cudaStreamSynchronize(s.stream);
}
void recorded_event(Setting& s) {
  s.begin();
  cudaEventRecord(s.event, s.stream);
  cudaEventQuery(s.event);
}
void allocation_while_recording(Setting& s) {
  s.begin(cudaStreamCaptureModeThreadLocal);
  cudaMalloc(&s.device, 4);
}
void other_thread_while_recording(Setting& s) {
  s.begin(cudaStreamCaptureModeGlobal);
  std::thread([&] {
    cudaSetDevice(1);
    cudaEventSynchronize(s.event);
  }).join();
}
void graph_destroyed_while_running(Setting& s) {
  const cudaGraphExec_t executable = s.graph();
  cudaGraphLaunch(executable, s.stream);
  cudaGraphExecDestroy(executable);
}
void graph_destroyed(Setting& s) {
  const cudaGraphExec_t executable = s.graph();
  cudaGraphExecDestroy(executable);
  cudaGraphLaunch(executable, s.stream);
}
void empty_grid(Setting& s) { s.launch({0}, 32); }
void grid_too_tall(Setting& s) { s.launch({1, 65536}, 32); }
void block_too_large(Setting& s) { s.launch({1}, 1056); }
void shared_not_permitted(Setting& s) { s.launch({1}, 32, (48 << 10) + 4); }
void cluster_without_code(Setting& s) { s.launch({2}, 32, 0, 2); }
void error_untaken(Setting& s) {
  s.upload();
  cudaStreamQuery(s.stream);
  s.upload();
}
void event_without_time(Setting& s) {
  float time = 0;
  cudaEventElapsedTime(&time, s.event, s.event);
}

struct Mistake {
  const char* name;
  void (*make)(Setting&);
};
#define EQ_MISTAKE(name) {#name, name}
constexpr Mistake kMistakes[] = {
    EQ_MISTAKE(device_not_set),
    EQ_MISTAKE(another_devices_stream),
    EQ_MISTAKE(default_stream),
    EQ_MISTAKE(blocking_stream),
    EQ_MISTAKE(destroyed_event),
    EQ_MISTAKE(pageable_source),
    EQ_MISTAKE(pageable_target),
    EQ_MISTAKE(source_changes),
    EQ_MISTAKE(source_freed),
    EQ_MISTAKE(graph_source_freed),
    EQ_MISTAKE(target_freed),
    EQ_MISTAKE(copy_too_long),
    EQ_MISTAKE(copy_onto_itself),
    EQ_MISTAKE(memory_freed_too_early),
    EQ_MISTAKE(memory_freed_twice),
    EQ_MISTAKE(host_reads_device),
    EQ_MISTAKE(nothing_allocated),
    EQ_MISTAKE(query_while_recording),
    EQ_MISTAKE(wait_while_recording),
    EQ_MISTAKE(recorded_event),
    EQ_MISTAKE(allocation_while_recording),
    EQ_MISTAKE(other_thread_while_recording),
    EQ_MISTAKE(graph_destroyed_while_running),
    EQ_MISTAKE(graph_destroyed),
    EQ_MISTAKE(empty_grid),
    EQ_MISTAKE(grid_too_tall),
    EQ_MISTAKE(block_too_large),
    EQ_MISTAKE(shared_not_permitted),
    EQ_MISTAKE(cluster_without_code),
    EQ_MISTAKE(error_untaken),
    EQ_MISTAKE(event_without_time),
};
#undef EQ_MISTAKE

}  // namespace

bool probe_mistake(const char* name) {
  for (const Mistake& mistake : kMistakes) {
    if (std::strcmp(name, mistake.name) != 0) continue;
    Setting setting;
    mistake.make(setting);
    return true;
  }
  return false;
}

}  // namespace eq
