// Devices, errors, and what every call needs: model.h.
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "simt/cudart/model.h"

namespace eq::cudart {

namespace {

thread_local int current = -1;
thread_local cudaError_t last = cudaSuccess;

/// The driver goes when the process ends: after the destructors of what was made later than the first call.
void unload() {
  std::lock_guard lock(model().mutex);
  model().unloaded = true;
}

}  // namespace

void violation(const char* call, const std::string& what) {
  std::fprintf(stderr, "cudart model: %s: %s\n", call, what.c_str());
  std::fflush(stderr);
  std::_Exit(70);
}

Model::Model() {
  if (const char* wanted = std::getenv("EQUIPOISE_SIMT_CAPABILITY")) capability = std::atoi(wanted);
  std::atexit(unload);
}

Model& model() {
  static Model& one = *new Model;
  return one;
}

unsigned Model::most_shared() const {
  const bool large = capability >= 90 && capability < 120;
  return (large ? 227u : capability == 80 || capability == 87 ? 163u : 99u) << 10;
}

void refuse(const char* call, int times, int after) { model().refusals[call] = {after, times}; }

std::string left_over() {
  const Model& m = model();
  std::string text;
  const auto tell = [&](const char* what, std::size_t n) {
    if (n > 0) text += (text.empty() ? "" : ", ") + std::to_string(n) + " " + what;
  };
  tell("blocks of device memory", m.device_memory.size());
  tell("blocks of page-locked memory", m.pinned.size());
  tell("streams", m.streams.size());
  tell("events", m.events.size());
  tell("graphs", m.graphs.size() + m.executables.size());
  return text.empty() ? "nothing left" : text;
}

Entry::Entry(const char* call, unsigned needs) : lock_(model().mutex), call_(call) {
  Model& m = model();
  if (m.unloaded) violation(call, "the driver is gone: the process is ending");
  if ((needs & kDevice) && current < 0) violation(call, "this thread has not set its device");
  if (needs & kSafety)
    for (const cudaStream_t stream : m.streams) {
      if (!stream->capture || stream->capture->mode == cudaStreamCaptureModeRelaxed) continue;
      if (stream->capture->mode == cudaStreamCaptureModeGlobal || stream->capture->thread == std::this_thread::get_id())
        violation(call, "a capture forbids calls that may wait or allocate");
    }
  if ((needs & kNoError) && last != cudaSuccess)
    violation(call, std::string("queues work while an error is untaken: ") + cudaGetErrorName(last));
  const auto refusal = m.refusals.find(call);
  const bool counted = refusal != m.refusals.end() && refusal->second.times > 0;
  if (counted && refusal->second.after-- <= 0) {
    --refusal->second.times;
    result_ = last = cudaErrorMemoryAllocation;
  } else if (needs != kNothing && current >= 0 && m.broken[current] != cudaSuccess) {
    result_ = last = m.broken[current];
  }
}

int Entry::device() const { return current; }

cudaError_t Entry::give(cudaError_t error) const {
  if (error != cudaSuccess) last = error;
  return error;
}

void Entry::check_stream(cudaStream_t stream) const {
  if (!stream) violation(call_, "the legacy default stream");
  check_handle(model().streams, stream);
  if (stream->device != current) violation(call_, "the stream is another device's than the thread's");
}

}  // namespace eq::cudart

using eq::cudart::Entry;
using eq::cudart::kDevice;
using eq::cudart::kDevices;
using eq::cudart::kNothing;
using eq::cudart::model;

extern "C" {

cudaError_t cudaDriverGetVersion(int* version) {
  const Entry entry("cudaDriverGetVersion", kNothing);
  *version = 13000;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  const Entry entry("cudaRuntimeGetVersion", kNothing);
  *version = 13000;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceCount(int* count) {
  const Entry entry("cudaGetDeviceCount", kNothing);
  *count = kDevices;
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
  const Entry entry("cudaGetDevice", kDevice);
  *device = entry.device();
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  const Entry entry("cudaSetDevice", kNothing);
  if (device < 0 || device >= kDevices) return entry.give(cudaErrorInvalidDevice);
  eq::cudart::current = device;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  const Entry entry("cudaGetDeviceProperties", kNothing);
  if (device < 0 || device >= kDevices) return entry.give(cudaErrorInvalidDevice);
  *properties = {};
  std::strcpy(properties->name, "Model of a GPU");
  properties->totalGlobalMem = model().capacity;
  properties->major = model().capability / 10;
  properties->minor = model().capability % 10;
  properties->multiProcessorCount = 4;
  properties->l2CacheSize = 1 << 20;
  return cudaSuccess;
}

cudaError_t cudaGetLastError() {
  const Entry entry("cudaGetLastError", kNothing);
  const cudaError_t error = eq::cudart::last;
  eq::cudart::last = cudaSuccess;
  return error;
}

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "cudaSuccess";
    case cudaErrorInvalidValue:
      return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorNotReady:
      return "cudaErrorNotReady";
    case cudaErrorIllegalAddress:
      return "cudaErrorIllegalAddress";
    default:
      return "an error of the model";
  }
}
const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaErrorIllegalAddress     ? "an illegal memory access was encountered"
         : error == cudaErrorMemoryAllocation ? "out of memory"
                                              : cudaGetErrorName(error);
}

}  // extern "C"
