// What a cuda.cu needs besides its op.h: launches, scratch staging, faults, shared memory.
//
// The same sources are compiled for the host with EQ_SIMT defined; simt/simt.h then plays the part of the CUDA
// runtime (threads of a block as fibers), and simt/device.cc that of device.cc. Tensor-core and copy instructions have
// functions in warp_mma.cuh and hopper.cuh, which the shim carries out.
#pragma once

#include <tuple>
#include <type_traits>
#include <utility>

#if defined(EQ_SIMT)
#include "simt/simt.h"
#else
#define EQ_SIMT 0
#include <cuda_runtime.h>
#endif

#include "runtime/device.h"

namespace eq {

struct Launch {
  unsigned grid_x = 0, grid_y = 1, grid_z = 1;
  unsigned block = 1;
  /// Dynamic shared memory in bytes. More than 48 KiB is asked for with the attribute that permits it.
  unsigned shared = 0;
  /// Blocks of a cluster, as the kernel's EQ_CLUSTER has it (cluster.cuh).
  unsigned cluster = 1;
};

/// Streaming multiprocessors of the device.
int multiprocessors(Device& device);
/// 10 * major + minor of the device's compute capability: 80, 90, ...
int compute_capability(Device& device);

/// Blocks for a grid-stride loop over `n` items of which a block takes `per_block` at a time: enough to cover the
/// items or to fill every multiprocessor `waves` times, whichever is less.
inline unsigned grid_for(Device& device, std::int64_t n, std::int64_t per_block, int waves = 8) {
  const std::int64_t blocks = (n + per_block - 1) / per_block;
  const std::int64_t most = static_cast<std::int64_t>(multiprocessors(device)) * waves;
  return static_cast<unsigned>(blocks < most ? blocks : most);
}

/// True while launches are recorded for a graph: nothing may wait, and nothing may be timed.
inline bool recording(Device& device) { return device.recording(); }

/// A small table that a kernel reads (tensor lists and the like), copied to device memory in stream order. The host
/// copy may be dropped at once; keep the tensor until the launch.
Tensor stage(Device& device, const void* table, std::size_t bytes);
/// kTickets counters in device memory, zero between kernels: each block adds 1 when its results are written, and the
/// one that finds itself last combines them and puts the counter back to 0. For reductions in one launch.
constexpr int kTickets = 16;
unsigned* tickets(Device& device);
/// Queues a fill with one byte value.
void fill_bytes(Device& device, void* p, int value, std::size_t bytes);

// Faults: what a kernel can find only at run time (an index out of range). The first one since the last read becomes
// the device's pending fault, told as "<op> <shapes>: <message>" by the next read or synchronize.

/// In device memory; zero while nothing has happened.
struct FaultRecord {
  unsigned raised;
  unsigned site;
  long long values[3];
};

/// Passed to the kernel by value.
struct Fault {
  FaultRecord* record;
  unsigned site;
};

/// `message` (a string literal) holds up to three '%', replaced by the values given to `raise`.
Fault fault_site(Device& device, const OpInfo& info, const char* message);

#if defined(__CUDACC__) || EQ_SIMT
__device__ inline void raise(const Fault& fault, long long a = 0, long long b = 0, long long c = 0) {
  if (atomicCAS(&fault.record->raised, 0u, 1u) != 0u) return;
  fault.record->site = fault.site;
  fault.record->values[0] = a;
  fault.record->values[1] = b;
  fault.record->values[2] = c;
}
#endif

#if EQ_SIMT

namespace simt {
/// Runs `thread(context)` for every thread.
void launch(Device& device, const OpInfo& info, const Launch& launch, void (*thread)(void*),
            std::shared_ptr<void> context);
}  // namespace simt

/// Launches `kernel`; see the CUDA version below.
template <class... P, class... A>
void launch_kernel(Device& device, const OpInfo& info, void (*kernel)(P...), const Launch& launch, A&&... args) {
  static_assert(sizeof...(P) == sizeof...(A), "a kernel takes exactly its parameters");
  struct Bound {
    void (*kernel)(P...);
    std::tuple<std::remove_cv_t<P>...> parameters;
  };
  auto bound = std::make_shared<Bound>(Bound{kernel, {static_cast<P>(std::forward<A>(args))...}});
  simt::launch(
      device, info, launch,
      [](void* context) {
        auto& b = *static_cast<Bound*>(context);
        std::apply(b.kernel, b.parameters);
      },
      std::move(bound));
}

/// The block's dynamic shared memory (Launch::shared bytes), aligned to 128 bytes.
template <class T>
T* dynamic_shared() {
  return static_cast<T*>(simt::dynamic_shared_memory());
}

#else

/// The device's stream, for libraries that queue work themselves.
cudaStream_t stream(Device& device);

/// Throws a RangeError (out of memory) or a TypeError that names `op` unless `status` is success.
void check_cuda(cudaError_t status, const char* op);

namespace detail {
void launch(Device& device, const OpInfo& info, const void* kernel, const Launch& launch, void** parameters);
}

/// Queues `kernel` on the device's stream; a grid with no blocks is no launch. Arguments convert to the parameters'
/// types. Several launches of one op are one range of the profile.
template <class... P, class... A>
void launch_kernel(Device& device, const OpInfo& info, void (*kernel)(P...), const Launch& launch, A&&... args) {
  static_assert(sizeof...(P) == sizeof...(A), "a kernel takes exactly its parameters");
  std::tuple<std::remove_cv_t<P>...> parameters{static_cast<P>(std::forward<A>(args))...};
  std::apply(
      [&](auto&... p) {
        // One more, so that a kernel without parameters still gives an array.
        void* addresses[] = {const_cast<void*>(static_cast<const void*>(&p))..., nullptr};
        detail::launch(device, info, reinterpret_cast<const void*>(kernel), launch, addresses);
      },
      parameters);
}

#if defined(__CUDACC__)
/// The block's dynamic shared memory (Launch::shared bytes), aligned to 128 bytes.
template <class T>
__device__ inline T* dynamic_shared() {
  extern __shared__ __align__(128) unsigned char eq_dynamic_shared[];
  return reinterpret_cast<T*>(eq_dynamic_shared);
}
#endif

#endif

}  // namespace eq
