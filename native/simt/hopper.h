// Hopper's instructions in the shim; what they do is told in async.h. Shared addresses are offsets in the block's
// window.
#pragma once

#include <cstdint>

#include "simt/simt.h"
#include "simt/tensor_map.h"

namespace eq::simt {

/// The address that instructions take for a place in the block's dynamic shared memory.
std::uint32_t shared_address(const void* p);

void mbarrier_init(std::uint32_t barrier, unsigned count);
void mbarrier_init_fence();
void mbarrier_arrive(std::uint32_t barrier);
void mbarrier_arrive_expecting(std::uint32_t barrier, unsigned bytes);
/// Waits for the end of the phase of this parity.
void mbarrier_wait(std::uint32_t barrier, unsigned parity);

void copy_tile(std::uint32_t to, const CUtensorMap* map, std::uint32_t barrier, int rank, const int* at);
void fence_proxy();

// For all threads of a warp; `sums` are the calling thread's own.
void products_fence();
void products_commit();
void products_wait(int pending);
void product(float* sums, int n, std::uint64_t a, std::uint64_t b, bool transposed_b);

}  // namespace eq::simt

// Told in runtime/cuda/hopper.cuh and warp_mma.cuh.

namespace eq {
using simt::shared_address;
}

namespace eq::hopper {

inline void products_begin() { simt::products_fence(); }
inline void products_commit() { simt::products_commit(); }
template <int kPending, int N>
void products_wait(float (&)[N]) {
  simt::products_wait(kPending);
}

template <int kN, bool kTransposedB>
struct WarpgroupProduct {
  static void add(float (&d)[kN / 2], std::uint64_t a, std::uint64_t b) { simt::product(d, kN, a, b, kTransposedB); }
};

template <int kRegisters>
void give_registers() {}
template <int kRegisters>
void take_registers() {}

inline void barrier_init(unsigned barrier, unsigned count) { simt::mbarrier_init(barrier, count); }
inline void barrier_init_fence() { simt::mbarrier_init_fence(); }
inline void barrier_expect(unsigned barrier, unsigned bytes) { simt::mbarrier_arrive_expecting(barrier, bytes); }
inline void barrier_arrive(unsigned barrier) { simt::mbarrier_arrive(barrier); }
/// What waits in vain ends the launch.
inline bool barrier_wait(unsigned barrier, unsigned parity) {
  simt::mbarrier_wait(barrier, parity);
  return true;
}

inline void fence_shared() { simt::fence_proxy(); }
inline void named_barrier(unsigned index, unsigned threads) { simt::named_barrier(index, threads); }

inline void prefetch_map(const CUtensorMap*) {}
template <class... Coordinates>
void copy_tile(unsigned to, const CUtensorMap* map, unsigned barrier, Coordinates... at) {
  const int coordinates[] = {at...};
  simt::copy_tile(to, map, barrier, sizeof...(at), coordinates);
}

}  // namespace eq::hopper
