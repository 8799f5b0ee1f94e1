// Thread block clusters of sm_90: neighbouring blocks that run together and read each other's shared memory. Kernels
// for clusters are templates on the cluster's size; size 1 is an ordinary kernel on every device. In the shim the
// blocks of a cluster run beside one another, with __shared__ variables in common: what is read by other blocks, or
// kept across a cluster's barrier, must be dynamic shared memory.
#pragma once

#include "runtime/cuda/kernel.cuh"

/// Before a kernel's return type. Blocks n i .. n i + n - 1 of gridDim.x form a cluster; Launch::cluster says the same.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
#define EQ_CLUSTER(n) __cluster_dims__(n, 1, 1)
#else
#define EQ_CLUSTER(n)
#endif

namespace eq {

/// Whether kernels with clusters of more than one block may be launched: they are in the code for sm_90a alone. Later
/// GPUs run what the driver makes of compute_80, where a cluster's blocks know nothing of each other.
inline bool has_clusters(Device& device) { return compute_capability(device) == 90; }

/// Dynamic shared memory that one block may have (CUDA programming guide, "Technical Specifications per Compute
/// Capability"), less `fixed` bytes of its own and what the system keeps of it.
inline std::int64_t most_shared(Device& device, std::int64_t fixed) {
  const int capability = compute_capability(device);
  const std::int64_t most = capability == 80 || capability == 87                         ? 163
                            : (capability >= 90 && capability < 120 && capability != 89) ? 227
                                                                                         : 99;
  return (most << 10) - fixed;
}

/// Waits for all threads of the cluster; what they wrote to shared memory before is seen after. For all threads.
template <int kBlocks>
__device__ inline void cluster_barrier() {
#if EQ_SIMT
  kBlocks > 1 ? simt::cluster_barrier(kBlocks) : __syncthreads();
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  if constexpr (kBlocks > 1)
    asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
  else
    __syncthreads();
#else
  __syncthreads();
#endif
}

/// The float at `p`, an address of this block's dynamic shared memory, in block `rank` of the cluster.
template <int kBlocks>
__device__ inline float cluster_read(const float* p, [[maybe_unused]] unsigned rank) {
#if EQ_SIMT
  if constexpr (kBlocks > 1) return *static_cast<const float*>(simt::in_cluster(p, kBlocks, rank));
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  if constexpr (kBlocks > 1) {
    unsigned remote;
    float value;
    asm volatile("mapa.shared::cluster.u32 %0, %1, %2;"
                 : "=r"(remote)
                 : "r"(static_cast<unsigned>(__cvta_generic_to_shared(p))), "r"(rank));
    asm volatile("ld.shared::cluster.f32 %0, [%1];" : "=f"(value) : "r"(remote) : "memory");
    return value;
  }
#endif
  return *p;
}

}  // namespace eq
