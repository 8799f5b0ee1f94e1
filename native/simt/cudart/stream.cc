// Streams, copies and launches: model.h.
#include <cstdio>
#include <cstring>

#include "simt/cudart/model.h"

using namespace eq::cudart;

void CUstream_st::queue(Operation operation) {
  auto shared = std::make_shared<const Operation>(std::move(operation));
  if (capture)
    capture->operations.push_back(std::move(shared));
  else
    pending.push_back(std::move(shared));
}

/// What a library queues.
void CUstream_st::add(std::function<void()> work) {
  Entry entry("a library's call", kDevice | kNoError);
  if (entry.refused()) return;
  entry.check_stream(this);
  queue({"a library's call", std::move(work)});
}

void CUstream_st::run_until(std::uint64_t position) {
  if (done >= position || pending.empty()) return;
  const DeviceAccess access;
  while (done < position && !pending.empty()) {
    const auto operation = pending.front();
    pending.pop_front();
    ++done;
    cudaError_t& broken = model().broken[device];
    if (broken != cudaSuccess) continue;
    const Source& source = operation->source;
    if (source.data &&
        (!within(model().pinned, source.data, source.bytes) || hash_of(source.data, source.bytes) != source.hash))
      violation(operation->call, "the page-locked memory changed before the copy had run");
    try {
      operation->run();
    } catch (const std::exception& e) {
      std::fprintf(stderr, "cudart model: the device stops: %s\n", e.what());
      broken = cudaErrorIllegalAddress;
    }
  }
}

namespace {

void check_block(const Entry& entry, const void* p, std::size_t bytes) {
  if (!within(model().device_memory, p, bytes))
    violation(entry.call(),
              std::to_string(bytes) + " bytes at " + model().describe(reinterpret_cast<std::uintptr_t>(p)));
}
void check_pinned(const Entry& entry, const void* p, std::size_t bytes) {
  if (!within(model().pinned, p, bytes)) violation(entry.call(), "pageable memory: the copy would not be asynchronous");
}
/// Host memory can be freed and device memory given to others before the operation runs.
void check_still(const char* call, const void* p, std::size_t bytes) {
  if (!within(model().device_memory, p, bytes)) violation(call, "the device memory was freed before the copy had run");
}

}  // namespace

extern "C" {

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  const Entry entry("cudaStreamCreateWithFlags", kDevice | kSafety);
  if (entry.refused()) return entry.result();
  if (flags != cudaStreamNonBlocking) violation(entry.call(), "the stream would wait for the legacy default stream");
  *stream = new CUstream_st(entry.device());
  model().streams.insert(*stream);
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  const Entry entry("cudaStreamDestroy", kDevice | kSafety);
  entry.check_stream(stream);
  if (stream->capture) violation(entry.call(), "the stream is recording");
  stream->run_until(stream->queued());
  model().streams.erase(stream);
  delete stream;
  return entry.result();
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
  const Entry entry("cudaStreamQuery", kDevice);
  entry.check_stream(stream);
  if (stream->capture) violation(entry.call(), "the stream is recording");
  if (entry.refused()) return entry.result();
  if (stream->pending.empty()) return cudaSuccess;
  stream->run_until(stream->done + 1);  // the device goes on meanwhile
  return entry.give(model().broken[stream->device] != cudaSuccess ? model().broken[stream->device] : cudaErrorNotReady);
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  const Entry entry("cudaStreamSynchronize", kDevice);
  entry.check_stream(stream);
  if (stream->capture) violation(entry.call(), "the stream is recording");
  stream->run_until(stream->queued());
  return entry.give(model().broken[stream->device]);
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  const Entry entry("cudaMemcpyAsync", kDevice | kNoError);
  if (entry.refused()) return entry.result();
  entry.check_stream(stream);
  Operation operation{entry.call(), nullptr};
  if (kind == cudaMemcpyHostToDevice) {
    check_pinned(entry, from, bytes);
    check_block(entry, to, bytes);
    operation.source = {static_cast<const std::byte*>(from), bytes, 0};
    operation.source.hash = hash_of(operation.source.data, bytes);
  } else if (kind == cudaMemcpyDeviceToHost) {
    check_block(entry, from, bytes);
    check_pinned(entry, to, bytes);
    operation.target = static_cast<const std::byte*>(to);
    operation.target_bytes = bytes;
    std::memset(to, 0xff, bytes);  // nobody reads it before the copy has run
  } else {
    check_block(entry, from, bytes);
    check_block(entry, to, bytes);
    const auto *x = static_cast<const std::byte*>(from), *y = static_cast<const std::byte*>(to);
    if (x < y + bytes && y < x + bytes) violation(entry.call(), "the copy overlaps itself");
  }
  operation.run = [to, from, bytes, kind] {
    if (kind != cudaMemcpyDeviceToHost) check_still("cudaMemcpyAsync", to, bytes);
    if (kind != cudaMemcpyHostToDevice) check_still("cudaMemcpyAsync", from, bytes);
    std::memcpy(to, from, bytes);
  };
  stream->queue(std::move(operation));
  return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void* p, int value, std::size_t bytes, cudaStream_t stream) {
  const Entry entry("cudaMemsetAsync", kDevice | kNoError);
  if (entry.refused()) return entry.result();
  entry.check_stream(stream);
  check_block(entry, p, bytes);
  stream->queue({entry.call(), [=] {
                   check_still("cudaMemsetAsync", p, bytes);
                   std::memset(p, value, bytes);
                 }});
  return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value) {
  const Entry entry("cudaFuncSetAttribute", kDevice);
  if (entry.refused()) return entry.result();
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize || value < 0) return entry.give(cudaErrorInvalidValue);
  if (static_cast<unsigned>(value) > model().most_shared()) return entry.give(cudaErrorInvalidValue);
  model().shared[{entry.device(), kernel}] = static_cast<unsigned>(value);
  return cudaSuccess;
}

cudaError_t cudaLaunchKernel(const void* kernel, dim3 grid, dim3 block, void** parameters, std::size_t shared,
                             cudaStream_t stream) {
  const Entry entry("cudaLaunchKernel", kDevice | kNoError);
  if (entry.refused()) return entry.result();
  entry.check_stream(stream);
  const Model& m = model();
  const auto& launched = *static_cast<const Kernel*>(parameters[0]);
  const auto refuse = [&](const std::string& what) { violation(entry.call(), launched.op + ": " + what); };
  if (grid.x < 1 || grid.x > 0x7fffffffu || grid.y < 1 || grid.y > 65535 || grid.z < 1 || grid.z > 65535)
    refuse("a grid of " + std::to_string(grid.x) + " x " + std::to_string(grid.y) + " x " + std::to_string(grid.z));
  if (block.x < 1 || block.x > 1024 || block.y != 1 || block.z != 1)
    refuse("a block of " + std::to_string(block.x) + " threads");
  const auto permitted = m.shared.find({entry.device(), kernel});
  if (shared > (permitted == m.shared.end() ? 48u << 10 : std::max(48u << 10, permitted->second)))
    refuse(std::to_string(shared) + " bytes of dynamic shared memory were not permitted");
  // Code for clusters is that for sm_90a.
  if (launched.cluster > 1 && (m.capability != 90 || grid.x % launched.cluster != 0))
    refuse("a cluster of " + std::to_string(launched.cluster) + " blocks");
  stream->queue({entry.call(), launched.run});
  return cudaSuccess;
}

}  // extern "C"
