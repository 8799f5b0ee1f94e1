// A strict model of the CUDA runtime, on which native/runtime/cuda runs without a GPU. What is queued runs as late as
// it may: when somebody waits for it. What a GPU would answer with an error nobody expects, or silently get wrong, ends
// the process with a sentence that names the call:
//
//   the device of the thread was not set; a call after the driver is gone; a handle that was destroyed
//   a stream or event that is recording is waited for, or asked; an unsafe call while a capture forbids it
//   a copy from or to pageable memory; page-locked memory that changes, or is freed, before a copy from it has run
//   device memory that the host touches, that is freed twice, or used by work that runs after it was freed
//   a launch that no GPU of the capability takes; a graph destroyed while it runs; work queued with an error untaken
//
// Kernels are closures (Kernel), which the shim's scheduler runs. A kernel that fails leaves the device broken, as on a
// GPU: every later call gives its error.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <cuda_runtime.h>

#include "simt/global_memory.h"
#include "simt/work_queue.h"

namespace eq::cudart {

constexpr int kDevices = 2;

/// What the first of a kernel's parameters points to.
struct Kernel {
  /// Runs every thread; throws what a thread did wrong.
  std::function<void()> run;
  std::string op;
  unsigned cluster = 1;
};

/// Page-locked bytes that an operation reads.
struct Source {
  const std::byte* data = nullptr;
  std::size_t bytes = 0;
  std::uint64_t hash = 0;  ///< of what they were when the operation was queued
};
struct Operation {
  const char* call;
  std::function<void()> run;
  Source source{};
  /// Page-locked bytes that it writes.
  const std::byte* target = nullptr;
  std::size_t target_bytes = 0;
};
using Operations = std::vector<std::shared_ptr<const Operation>>;

struct Memory {
  std::byte* map;
  std::size_t map_bytes, bytes;
  int device;
};

/// Ends the process: `call: what`.
[[noreturn]] void violation(const char* call, const std::string& what);

struct Model final : simt::GlobalMemory {
  std::recursive_mutex mutex;
  std::map<std::byte*, Memory> device_memory, pinned;
  std::deque<Memory> freed;  ///< inaccessible, so that late uses are found
  std::set<cudaStream_t> streams;
  std::set<cudaEvent_t> events;
  std::set<cudaGraph_t> graphs;
  std::set<cudaGraphExec_t> executables;
  std::map<std::pair<int, const void*>, unsigned> shared;  ///< dynamic shared memory permitted
  cudaError_t broken[kDevices] = {};
  std::size_t used[kDevices] = {}, capacity = std::size_t{4} << 30;
  int capability = 80;
  bool running = false;  ///< device memory may be touched
  bool unloaded = false;
  struct Refusal {
    int after, times;
  };
  std::map<std::string, Refusal> refusals;  ///< calls that are to fail

  Model();
  bool owns(std::uintptr_t address) const override;
  std::string describe(std::uintptr_t address) const override;
  /// Dynamic shared memory that a block may be permitted.
  unsigned most_shared() const;
};
Model& model();

/// For tests: lets `times` calls of a function fail, after so many that do not; how much is left of everything.
void refuse(const char* call, int times, int after = 0);
std::string left_over();

struct Capture {
  cudaStreamCaptureMode mode;
  std::thread::id thread;
  Operations operations;
};

// What the state of a thread and of its device permits.
enum Needs : unsigned { kNothing = 0, kDevice = 1, kSafety = 2, kNoError = 4 };

/// The start of every call: takes the lock and checks what the call needs. `result` is the error to return at once.
class Entry {
 public:
  Entry(const char* call, unsigned needs);
  bool refused() const { return result_ != cudaSuccess; }
  cudaError_t result() const { return result_; }
  int device() const;
  /// Remembers an error as the thread's last.
  cudaError_t give(cudaError_t error) const;
  template <class Set, class Handle>
  void check_handle(const Set& known, Handle handle) const {
    if (!known.contains(handle)) violation(call_, "the handle was never made, or has been destroyed");
  }
  void check_stream(cudaStream_t stream) const;
  const char* call() const { return call_; }

 private:
  std::unique_lock<std::recursive_mutex> lock_;
  const char* call_;
  cudaError_t result_ = cudaSuccess;
};

// memory.cc
std::uint64_t hash_of(const std::byte* data, std::size_t bytes);
/// Whether the bytes lie in one block of `blocks`.
bool within(const std::map<std::byte*, Memory>& blocks, const void* p, std::size_t bytes);
/// While it lives device memory can be touched.
class DeviceAccess {
 public:
  DeviceAccess();
  ~DeviceAccess();

 private:
  bool outermost_;
};

}  // namespace eq::cudart

/// A queue. Libraries made for the shim see it as a WorkQueue.
struct CUstream_st final : eq::simt::WorkQueue {
  explicit CUstream_st(int owner) : device(owner) {}
  void add(std::function<void()> work) override;
  void queue(eq::cudart::Operation operation);
  /// Runs what was queued before `position`.
  void run_until(std::uint64_t position);
  std::uint64_t queued() const { return done + pending.size(); }

  int device;
  std::unique_ptr<eq::cudart::Capture> capture;
  std::deque<std::shared_ptr<const eq::cudart::Operation>> pending;
  std::uint64_t done = 0;
};

struct CUevent_st {
  int device;
  unsigned flags;
  cudaStream_t stream = nullptr;  ///< where it was last recorded
  std::uint64_t position = 0;     ///< complete when so many operations are done
  bool captured = false;
  double time = 0;
};

struct CUgraph_st {
  eq::cudart::Operations operations;
};
struct CUgraphExec_st {
  eq::cudart::Operations operations;
  cudaStream_t stream = nullptr;  ///< of its last launch, which ends at `position`
  std::uint64_t position = 0;
};
