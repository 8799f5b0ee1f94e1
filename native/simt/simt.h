// The part of CUDA C++ that kernels use, for a host compiler: threads of a block are fibers of one host thread
// (scheduler.h). Test code: it finds wrong indices, missing barriers and uninitialised memory where there is no GPU,
// and says nothing about speed. Tensor-core and copy instructions: warp_mma.h and hopper.h.
//
//   __shared__             static variables, one for all blocks; `__shared__ __align__(16) float a[8]` is fine, alignas
//                          is not. What a block of a cluster keeps across a cluster's barrier, or shows other blocks,
//                          must be dynamic shared memory, of which each has its own
//   __syncthreads()        threads that have returned do not count; one that waits for ever is an error
//   shuffles, votes        lanes outside the mask, or past the end of the block, read as ones in every bit (NaN)
//   order of execution     blocks and warps run forwards in one launch and backwards in the next, so that what
//                          depends on their order gives different results
//   no other block         runs meanwhile, unless of the same cluster: a kernel must not wait for one
#pragma once

#include <math.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#define __global__
#define __device__
#define __host__
#define __constant__
#define __shared__ static
#define __forceinline__ inline
#define __noinline__
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) __attribute__((aligned(n)))

namespace eq::simt {

void* dynamic_shared_memory();

enum class Vote { All, Any };

/// Waits for the lanes of `mask`; `value` of lane `source` (modulo 32; -1 for none) is the result, ones in every bit if
/// that lane took no part. Values of lanes that took part are in `everyone` (optional, 32 entries) and their mask in
/// `present`.
std::uint64_t exchange(unsigned mask, std::uint64_t value, int source, unsigned* present = nullptr,
                       const std::uint64_t** everyone = nullptr);
/// Waits for the lanes of `mask`, and orders their accesses to memory; exchanges of values do not.
void warp_barrier(unsigned mask);
/// __threadfence: orders the thread's accesses around it for whoever meets it through atomics.
void fence();
/// Told before an atomic reads and writes `bytes` bytes at `at`; `place` is where the kernel called it.
void atomic_access(void* at, std::size_t bytes, const void* place);
/// Waits for the block; the sum of `value` over its threads, by bits: low half counts, as __syncthreads_count.
int block_barrier(int predicate);
int lane();
/// The running thread's number, below kSlots, among those that run at the same time.
unsigned slot();
constexpr unsigned kSlots = 8 * 1024;
/// Differs from one cluster of blocks to the next.
std::uint64_t run_number();
/// Waits for `threads` threads of the block, in warps.
void named_barrier(unsigned index, unsigned threads);
/// Waits for the cluster, which has `blocks` blocks.
void cluster_barrier(unsigned blocks);
/// Where block `rank` of the cluster keeps what this block has at `shared`.
const void* in_cluster(const void* shared, unsigned blocks, unsigned rank);
/// Ends the launch with an error.
[[noreturn]] void fail(const char* what);

}  // namespace eq::simt

#define EQ_SIMT_VECTOR2(name, type, align)                       \
  struct __attribute__((aligned(align))) name##2 { type x, y; }; \
  inline name##2 make_##name##2(type x, type y) { return {x, y}; }
#define EQ_SIMT_VECTOR4(name, type, align)                             \
  struct __attribute__((aligned(align))) name##4 { type x, y, z, w; }; \
  inline name##4 make_##name##4(type x, type y, type z, type w) { return {x, y, z, w}; }
EQ_SIMT_VECTOR2(char, signed char, 2)
EQ_SIMT_VECTOR2(uchar, unsigned char, 2)
EQ_SIMT_VECTOR2(short, short, 4)
EQ_SIMT_VECTOR2(ushort, unsigned short, 4)
EQ_SIMT_VECTOR2(int, int, 8)
EQ_SIMT_VECTOR2(uint, unsigned, 8)
EQ_SIMT_VECTOR2(float, float, 8)
EQ_SIMT_VECTOR2(double, double, 16)
EQ_SIMT_VECTOR2(longlong, long long, 16)
EQ_SIMT_VECTOR2(ulonglong, unsigned long long, 16)
EQ_SIMT_VECTOR4(char, signed char, 4)
EQ_SIMT_VECTOR4(uchar, unsigned char, 4)
EQ_SIMT_VECTOR4(short, short, 8)
EQ_SIMT_VECTOR4(ushort, unsigned short, 8)
EQ_SIMT_VECTOR4(int, int, 16)
EQ_SIMT_VECTOR4(uint, unsigned, 16)
EQ_SIMT_VECTOR4(float, float, 16)
#undef EQ_SIMT_VECTOR2
#undef EQ_SIMT_VECTOR4

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x = 1, y = 1, z = 1;
};

namespace eq::simt {

/// Of the running thread.
struct Coordinates {
  uint3 thread, block;
  dim3 block_size, grid_size;
};
inline Coordinates coordinates;

}  // namespace eq::simt

inline constexpr uint3 &threadIdx = eq::simt::coordinates.thread, &blockIdx = eq::simt::coordinates.block;
inline constexpr dim3 &blockDim = eq::simt::coordinates.block_size, &gridDim = eq::simt::coordinates.grid_size;
constexpr int warpSize = 32;

inline void __syncthreads() { eq::simt::block_barrier(0); }
inline int __syncthreads_count(int predicate) { return eq::simt::block_barrier(predicate != 0); }
inline int __syncthreads_or(int predicate) { return eq::simt::block_barrier(predicate != 0) != 0; }
inline int __syncthreads_and(int predicate) { return eq::simt::block_barrier(predicate == 0) == 0; }
inline void __syncwarp(unsigned mask = 0xffffffffu) { eq::simt::warp_barrier(mask); }
inline void __threadfence() { eq::simt::fence(); }
inline void __nanosleep(unsigned) {}
inline void __trap() { eq::simt::fail("__trap"); }

namespace eq::simt {

template <class T>
std::uint64_t to_bits(T value) {
  static_assert(sizeof(T) <= 8 && std::is_trivially_copyable_v<T>);
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  return bits;
}
template <class T>
T from_bits(std::uint64_t bits) {
  T value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}
template <class T>
T shuffle(unsigned mask, T value, int source) {
  return from_bits<T>(exchange(mask, to_bits(value), source));
}
inline int first_of(int width) { return lane() & ~(width - 1); }

}  // namespace eq::simt

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
  return eq::simt::shuffle(mask, value, eq::simt::first_of(width) + (source & (width - 1)));
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32) {
  const int source = eq::simt::lane() ^ bits;
  return eq::simt::shuffle(mask, value, source < eq::simt::first_of(width) + width ? source : eq::simt::lane());
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned steps, int width = 32) {
  const int source = eq::simt::lane() + static_cast<int>(steps);
  return eq::simt::shuffle(mask, value, source < eq::simt::first_of(width) + width ? source : eq::simt::lane());
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned steps, int width = 32) {
  const int source = eq::simt::lane() - static_cast<int>(steps);
  return eq::simt::shuffle(mask, value, source >= eq::simt::first_of(width) ? source : eq::simt::lane());
}
inline unsigned __ballot_sync(unsigned mask, int predicate) {
  unsigned present = 0, votes = 0;
  const std::uint64_t* values = nullptr;
  eq::simt::exchange(mask, predicate != 0, -1, &present, &values);
  for (int i = 0; i < 32; ++i)
    if (present >> i & 1u && values[i]) votes |= 1u << i;
  return votes;
}
inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, !predicate) == 0; }
inline unsigned __activemask() { return eq::simt::fail("__activemask tells nothing that a program may rely on"), 0u; }
template <class T>
unsigned __match_any_sync(unsigned mask, T value) {
  unsigned present = 0, same = 0;
  const std::uint64_t* values = nullptr;
  eq::simt::exchange(mask, eq::simt::to_bits(value), -1, &present, &values);
  for (int i = 0; i < 32; ++i)
    if (present >> i & 1u && values[i] == eq::simt::to_bits(value)) same |= 1u << i;
  return same;
}
inline unsigned __reduce_add_sync(unsigned mask, unsigned value) {
  unsigned present = 0, sum = 0;
  const std::uint64_t* values = nullptr;
  eq::simt::exchange(mask, value, -1, &present, &values);
  for (int i = 0; i < 32; ++i)
    if (present >> i & 1u) sum += static_cast<unsigned>(values[i]);
  return sum;
}

// Atomics: fibers change only at barriers, so plain reads and writes are atomic. A call of each is in the kernel, whose
// line an error names.
template <class T, class Combine>
__attribute__((noinline, no_sanitize("thread"))) T eq_simt_atomic(T* at, Combine combine) {
  eq::simt::atomic_access(at, sizeof(T), __builtin_return_address(0));
  const T old = *at;
  *at = combine(old);
  return old;
}
template <class T, class U>
__attribute__((always_inline)) inline T atomicAdd(T* at, U value) {
  return eq_simt_atomic(at, [&](T old) { return static_cast<T>(old + static_cast<T>(value)); });
}
template <class T, class U>
__attribute__((always_inline)) inline T atomicSub(T* at, U value) {
  return eq_simt_atomic(at, [&](T old) { return static_cast<T>(old - static_cast<T>(value)); });
}
template <class T, class U>
__attribute__((always_inline)) inline T atomicMax(T* at, U value) {
  return eq_simt_atomic(at, [&](T old) { return old > static_cast<T>(value) ? old : static_cast<T>(value); });
}
template <class T, class U>
__attribute__((always_inline)) inline T atomicMin(T* at, U value) {
  return eq_simt_atomic(at, [&](T old) { return old < static_cast<T>(value) ? old : static_cast<T>(value); });
}
template <class T, class U>
__attribute__((always_inline)) inline T atomicOr(T* at, U value) {
  return eq_simt_atomic(at, [&](T old) { return static_cast<T>(old | static_cast<T>(value)); });
}
template <class T, class U>
__attribute__((always_inline)) inline T atomicAnd(T* at, U value) {
  return eq_simt_atomic(at, [&](T old) { return static_cast<T>(old & static_cast<T>(value)); });
}
template <class T, class U>
__attribute__((always_inline)) inline T atomicExch(T* at, U value) {
  return eq_simt_atomic(at, [&](T) { return static_cast<T>(value); });
}
template <class T, class U, class V>
__attribute__((always_inline)) inline T atomicCAS(T* at, U expected, V value) {
  return eq_simt_atomic(at, [&](T old) { return old == static_cast<T>(expected) ? static_cast<T>(value) : old; });
}
/// Wraps to 0 after `last`.
__attribute__((always_inline)) inline unsigned atomicInc(unsigned* at, unsigned last) {
  return eq_simt_atomic(at, [&](unsigned old) { return old >= last ? 0u : old + 1u; });
}

template <class T>
T __ldg(const T* p) {
  return *p;
}
template <class T>
T __ldcs(const T* p) {
  return *p;
}
template <class T>
T __ldcg(const T* p) {
  return *p;
}
template <class T>
void __stcs(T* p, T value) {
  *p = value;
}
template <class T>
void __stcg(T* p, T value) {
  *p = value;
}

inline unsigned __float_as_uint(float x) { return eq::simt::from_bits<unsigned>(eq::simt::to_bits(x)); }
inline float __uint_as_float(unsigned x) { return eq::simt::from_bits<float>(x); }
inline int __float_as_int(float x) { return eq::simt::from_bits<int>(eq::simt::to_bits(x)); }
inline float __int_as_float(int x) { return eq::simt::from_bits<float>(eq::simt::to_bits(x)); }
inline long long __double_as_longlong(double x) { return eq::simt::from_bits<long long>(eq::simt::to_bits(x)); }
inline double __longlong_as_double(long long x) { return eq::simt::from_bits<double>(eq::simt::to_bits(x)); }

inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz(static_cast<unsigned>(x)); }
inline int __clzll(long long x) { return x == 0 ? 64 : __builtin_clzll(static_cast<unsigned long long>(x)); }
inline unsigned __brev(unsigned x) {
  unsigned y = 0;
  for (int i = 0; i < 32; ++i) y |= (x >> i & 1u) << (31 - i);
  return y;
}
inline unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<unsigned>(static_cast<unsigned long long>(a) * b >> 32);
}

inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline double rsqrt(double x) { return 1.0 / sqrt(x); }
inline float __expf(float x) { return expf(x); }
inline float __exp2f(float x) { return exp2f(x); }
inline float __logf(float x) { return logf(x); }
inline float __sinf(float x) { return sinf(x); }
inline float __cosf(float x) { return cosf(x); }
inline float __powf(float x, float y) { return powf(x, y); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fsqrt_rn(float x) { return sqrtf(x); }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __dadd_rn(double a, double b) { return a + b; }
inline float __saturatef(float x) { return x > 0 ? (x < 1 ? x : 1.0f) : 0.0f; }
inline void sincospif(float x, float* s, float* c) {
  *s = static_cast<float>(sin(M_PI * static_cast<double>(x)));
  *c = static_cast<float>(cos(M_PI * static_cast<double>(x)));
}
/// Truncation that saturates, with 0 for NaN, as the device's conversions do.
inline int __float2int_rz(float x) {
  return x != x ? 0 : x >= 2147483648.0f ? 2147483647 : x <= -2147483648.0f ? -2147483647 - 1 : static_cast<int>(x);
}
inline int __float2int_rn(float x) { return __float2int_rz(rintf(x)); }
inline int __float2int_rd(float x) { return __float2int_rz(floorf(x)); }
inline float __int2float_rn(int x) { return static_cast<float>(x); }
inline float __uint2float_rn(unsigned x) { return static_cast<float>(x); }

#define EQ_SIMT_MIN_MAX(type)                               \
  inline type min(type a, type b) { return a < b ? a : b; } \
  inline type max(type a, type b) { return a > b ? a : b; }
EQ_SIMT_MIN_MAX(int)
EQ_SIMT_MIN_MAX(unsigned)
EQ_SIMT_MIN_MAX(long)
EQ_SIMT_MIN_MAX(unsigned long)
EQ_SIMT_MIN_MAX(long long)
EQ_SIMT_MIN_MAX(unsigned long long)
#undef EQ_SIMT_MIN_MAX
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }
