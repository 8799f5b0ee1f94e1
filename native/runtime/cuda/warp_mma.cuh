// Tensor-core instructions of sm_80 and later that one warp issues, and asynchronous copies to shared memory.
//
// Fragment layouts (PTX ISA, "Matrix Fragments for mma.m16n8k16"), lane = 4 g + t with t in 0..3:
//   A [16 x 16]: a0 = (g, 2t..2t+1), a1 = (g + 8, 2t..), a2 = (g, 2t + 8..), a3 = (g + 8, 2t + 8..)
//   B [16 x 8]:  b0 = (k = 2t..2t+1, n = g), b1 = (k = 2t + 8.., n = g)
//   C [16 x 8]:  c0, c1 = (g, 2t), (g, 2t + 1);  c2, c3 = (g + 8, 2t), (g + 8, 2t + 1)
//
// Under EQ_SIMT the same functions are carried out lane by lane from these tables: the lanes exchange their registers
// through memory. Two properties of the hardware are kept on purpose, so that tests meet them: sums are cut, not
// rounded, to f32, and an asynchronous copy happens no sooner than it is waited for.
#pragma once

#include <cstdint>
#if defined(EQ_SIMT) && EQ_SIMT
#include <cstring>
#include <vector>
#endif

#include "runtime/cuda/kernel.cuh"
#include "runtime/dtype.h"

namespace eq {

#if EQ_SIMT

namespace simt_mma {

/// What the lanes of a warp show each other. Two buffers: a lane that is one instruction ahead writes the other one.
struct Exchange {
  std::uint64_t words[2][32][6];
  unsigned turn[32];
};
inline Exchange& exchange() {
  static thread_local Exchange warps[32] = {};
  return warps[threadIdx.x / 32];
}

struct Copy {
  void* to;
  const void* from;
  int bytes;
};
/// Copies of one thread that have not been waited for: closed groups and the open one (the last).
inline std::vector<std::vector<Copy>>& pending() {
  static thread_local std::vector<std::vector<Copy>> threads[1024];
  auto& groups = threads[threadIdx.x];
  if (groups.empty()) groups.emplace_back();
  return groups;
}

inline float half_of(std::uint64_t word, int half) {
  bf16 value;
  value.bits = static_cast<std::uint16_t>(word >> (16 * half));
  return static_cast<float>(value);
}

/// To f32 by cutting.
inline float cut(double x) {
  float f = static_cast<float>(x);
  if (std::isfinite(f) && std::fabs(static_cast<double>(f)) > std::fabs(x)) f = std::nextafterf(f, 0.0f);
  return f;
}

}  // namespace simt_mma

/// Copies 16 bytes to shared memory: the first `bytes` from memory, zeros after them. Both addresses are multiples
/// of 16.
inline void copy_async(void* to, const void* from, int bytes) {
  simt_mma::pending().back().push_back({to, from, bytes});
}
inline void copy_commit() { simt_mma::pending().emplace_back(); }
/// Waits until at most `kPending` of the thread's latest groups are under way.
template <int kPending>
inline void copy_wait() {
  auto& groups = simt_mma::pending();
  const std::size_t closed = groups.size() - 1;
  const std::size_t done = closed > kPending ? closed - kPending : 0;
  for (std::size_t i = 0; i < done; ++i)
    for (const simt_mma::Copy& copy : groups[i]) {
      if (copy.bytes > 0) std::memcpy(copy.to, copy.from, static_cast<std::size_t>(copy.bytes));
      std::memset(static_cast<char*>(copy.to) + copy.bytes, 0, static_cast<std::size_t>(16 - copy.bytes));
    }
  groups.erase(groups.begin(), groups.begin() + static_cast<std::ptrdiff_t>(done));
}

/// Four 8 x 8 matrices of 16-bit elements; lane 8 i + r gives the address of row r of matrix i. The lane receives
/// elements (g, 2t), (g, 2t + 1) of matrix i in r[i]; transposed: (2t, g), (2t + 1, g).
template <bool kTransposed>
inline void load_matrices(std::uint32_t (&r)[4], const void* row) {
  auto& warp = simt_mma::exchange();
  const unsigned lane = threadIdx.x % 32, turn = warp.turn[lane]++ % 2;
  warp.words[turn][lane][0] = reinterpret_cast<std::uintptr_t>(row);
  __syncwarp();
  const auto element = [&](unsigned matrix, unsigned i, unsigned j) -> std::uint32_t {
    return reinterpret_cast<const std::uint16_t*>(warp.words[turn][matrix * 8 + i][0])[j];
  };
  const unsigned g = lane / 4, t = lane % 4;
  for (unsigned m = 0; m < 4; ++m)
    r[m] = kTransposed ? element(m, 2 * t, g) | element(m, 2 * t + 1, g) << 16
                       : element(m, g, 2 * t) | element(m, g, 2 * t + 1) << 16;
}

/// c += a b for bf16 fragments.
inline void mma_bf16(float (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1) {
  auto& warp = simt_mma::exchange();
  const unsigned lane = threadIdx.x % 32, turn = warp.turn[lane]++ % 2;
  std::uint64_t(&mine)[6] = warp.words[turn][lane];
  for (int i = 0; i < 4; ++i) mine[i] = a[i];
  mine[4] = b0;
  mine[5] = b1;
  __syncwarp();
  const unsigned g = lane / 4, t = lane % 4;
  for (unsigned i = 0; i < 4; ++i) {
    const unsigned row = g + i / 2 * 8, column = 2 * t + i % 2;
    double sum = static_cast<double>(c[i]);
    for (unsigned k = 0; k < 16; ++k) {
      const unsigned from = k % 8 / 2;
      const float x = simt_mma::half_of(warp.words[turn][row % 8 * 4 + from][row / 8 + k / 8 * 2], k % 2);
      const float y = simt_mma::half_of(warp.words[turn][column * 4 + from][4 + k / 8], k % 2);
      sum += static_cast<double>(x) * static_cast<double>(y);
    }
    c[i] = simt_mma::cut(sum);
  }
}

#elif defined(__CUDACC__)

__device__ inline unsigned shared_address(const void* p) { return static_cast<unsigned>(__cvta_generic_to_shared(p)); }

__device__ inline void copy_async(void* to, const void* from, int bytes) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from), "r"(bytes)
               : "memory");
}
__device__ inline void copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int kPending>
__device__ inline void copy_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

template <bool kTransposed>
__device__ inline void load_matrices(std::uint32_t (&r)[4], const void* row) {
  if constexpr (kTransposed)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
  else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}

__device__ inline void mma_bf16(float (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

#endif

}  // namespace eq
