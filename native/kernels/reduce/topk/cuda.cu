// The k greatest of each row by sorting 64-bit keys: the element, as an unsigned number of the same order, above the
// complement of its index. Keys differ, so that a sort in any manner keeps equal elements in order.
//
//   stream   k <= 1024, or rows of up to 2048: a block keeps the best k in 16 KB of shared memory, collects the keys
//            that beat the last of them, and sorts when there is no room for another 256. The elements are read once.
//   sort     the rest: all keys of all rows in scratch (8 bytes an element, rows padded to powers of two), a bitonic
//            sort of which everything within 2048 keys runs in shared memory: about log2(n / 2048)^2 / 2 passes.
//
// 256 threads. No hot loop selects: limited by the sorts.
#include "kernels/packet.cuh"
#include "op.h"

namespace eq {

namespace {

using Key = unsigned long long;

constexpr int kThreads = 256, kRoom = 2048;
constexpr std::int64_t kMostStreamed = 1024;

/// Greater elements have greater keys; among equal ones earlier indices have. NaN is below everything, 0 below NaN.
__device__ inline Key make_key(const TopKArgs& a, std::int64_t row, std::int64_t column) {
  const std::int64_t at = row * a.columns + column;
  unsigned rank;
  if (is_float(a.type)) {
    float x = load_one<float>(a.x, a.type, at);
    if (x == 0) x = 0;  // -0
    const unsigned bits = __float_as_uint(x);
    rank = x != x ? 0u : bits >> 31 ? ~bits : bits | 0x80000000u;
  } else {
    rank = static_cast<unsigned>(load_one<int>(a.x, a.type, at)) ^ 0x80000000u;
  }
  return static_cast<Key>(rank) << 32 | static_cast<unsigned>(~static_cast<unsigned>(column));
}

/// Writes result i of a row.
__device__ inline void emit(const TopKArgs& a, std::int64_t row, std::int64_t i, Key key) {
  const auto column = static_cast<std::int64_t>(~static_cast<unsigned>(key));
  const std::int64_t from = row * a.columns + column, to = row * a.k + i;
  a.indices[to] = static_cast<std::int32_t>(column);
  if (a.type == DType::F32 || a.type == DType::I32)
    static_cast<unsigned*>(a.values)[to] = __ldg(static_cast<const unsigned*>(a.x) + from);
  else if (a.type == DType::BF16)
    static_cast<std::uint16_t*>(a.values)[to] = __ldg(static_cast<const std::uint16_t*>(a.x) + from);
  else
    static_cast<std::uint8_t*>(a.values)[to] = __ldg(static_cast<const std::uint8_t*>(a.x) + from);
}

/// One step of a bitonic sort on `n` keys in shared memory that are those from `base` on: pairs `apart` of each other,
/// descending where the index has no bit of `run`.
__device__ inline void sort_step(Key* keys, int n, std::int64_t base, std::int64_t run, int apart) {
  for (int p = threadIdx.x; p < n / 2; p += kThreads) {
    const int i = 2 * p - (p & (apart - 1)), j = i + apart;
    const bool descending = ((base + i) & run) == 0;
    const Key a = keys[i], b = keys[j];
    if ((a < b) == descending) {
      keys[i] = b;
      keys[j] = a;
    }
  }
  __syncthreads();
}
/// Sorts n keys, a power of two, in descending order. Starts and ends with the block in step.
__device__ inline void sort(Key* keys, int n) {
  __syncthreads();
  for (int run = 2; run <= n; run *= 2)
    for (int apart = run / 2; apart > 0; apart /= 2) sort_step(keys, n, 0, run, apart);
}

__global__ __launch_bounds__(kThreads) void stream_topk(const TopKArgs a) {
  __shared__ Key keys[kRoom];
  __shared__ int filled;
  const int k = static_cast<int>(a.k);
  for (std::int64_t row = blockIdx.x; row < a.rows; row += gridDim.x) {
    // The first keys need no comparison; sorting fewer than there is room for is cheaper.
    const int first = static_cast<int>(min(a.columns, static_cast<std::int64_t>(kRoom)));
    int n = 2;
    while (n < first) n *= 2;
    for (int i = threadIdx.x; i < n; i += kThreads) keys[i] = i < first ? make_key(a, row, i) : 0;
    sort(keys, n);
    for (std::int64_t next = first; next < a.columns;) {
      // Only what is greater than the k-th so far can come among the first k.
      const Key least = keys[k - 1];
      __syncthreads();
      for (int i = k + static_cast<int>(threadIdx.x); i < kRoom; i += kThreads) keys[i] = 0;
      if (threadIdx.x == 0) filled = k;
      __syncthreads();
      for (bool room = true; room && next < a.columns; next += kThreads) {
        const std::int64_t column = next + threadIdx.x;
        const Key key = column < a.columns ? make_key(a, row, column) : 0;
        if (key > least) keys[atomicAdd(&filled, 1)] = key;
        __syncthreads();
        room = filled + kThreads <= kRoom;
        __syncthreads();
      }
      sort(keys, kRoom);
    }
    for (int i = threadIdx.x; i < k; i += kThreads) emit(a, row, i, keys[i]);
    __syncthreads();
  }
}

__global__ __launch_bounds__(kThreads) void write_keys(const TopKArgs a, Key* keys, const std::int64_t padded) {
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kThreads;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < a.rows * padded;
       i += stride) {
    const std::int64_t column = i & (padded - 1);
    keys[i] = column < a.columns ? make_key(a, i / padded, column) : 0;
  }
}

/// All steps that stay within kRoom keys: of every run up to kRoom (`run` 0), or the last ones of a longer run.
__global__ __launch_bounds__(kThreads) void sort_within(Key* keys, const std::int64_t n, const std::int64_t padded,
                                                        const std::int64_t run) {
  __shared__ Key here[kRoom];
  for (std::int64_t base = static_cast<std::int64_t>(blockIdx.x) * kRoom; base < n;
       base += static_cast<std::int64_t>(gridDim.x) * kRoom) {
    const std::int64_t column = base & (padded - 1);
    for (int i = threadIdx.x; i < kRoom; i += kThreads) here[i] = keys[base + i];
    __syncthreads();
    if (run == 0) {
      for (int r = 2; r <= kRoom; r *= 2)
        for (int apart = r / 2; apart > 0; apart /= 2) sort_step(here, kRoom, column, r, apart);
    } else {
      for (int apart = kRoom / 2; apart > 0; apart /= 2) sort_step(here, kRoom, column, run, apart);
    }
    for (int i = threadIdx.x; i < kRoom; i += kThreads) keys[base + i] = here[i];
    __syncthreads();
  }
}

/// One step of a run, between keys at least kRoom apart.
__global__ __launch_bounds__(kThreads) void sort_across(Key* keys, const std::int64_t n, const std::int64_t padded,
                                                        const std::int64_t run, const std::int64_t apart) {
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kThreads;
  for (std::int64_t p = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x; p < n / 2; p += stride) {
    const std::int64_t i = 2 * p - (p & (apart - 1)), j = i + apart;
    const bool descending = (i & (padded - 1) & run) == 0;
    const Key a = keys[i], b = keys[j];
    if ((a < b) == descending) {
      keys[i] = b;
      keys[j] = a;
    }
  }
}

__global__ __launch_bounds__(kThreads) void emit_sorted(const TopKArgs a, const Key* keys, const std::int64_t padded) {
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kThreads;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < a.rows * a.k; i += stride)
    emit(a, i / a.k, i % a.k, keys[i / a.k * padded + i % a.k]);
}

void launch_sort(Device& device, const OpInfo& info, const TopKArgs& a) {
  std::int64_t padded = kRoom;
  while (padded < a.columns) padded *= 2;
  const std::int64_t n = a.rows * padded;
  const Tensor scratch = device.empty(DType::I32, {a.rows, padded, 2});
  auto* keys = scratch.data<Key>();
  const Launch each{.grid_x = grid_for(device, n, kThreads, 32), .block = kThreads};
  const Launch pairs{.grid_x = grid_for(device, n / 2, kThreads, 32), .block = kThreads};
  const Launch within{.grid_x = grid_for(device, n, kRoom, 8), .block = kThreads};
  launch_kernel(device, info, write_keys, each, a, keys, padded);
  launch_kernel(device, info, sort_within, within, keys, n, padded, 0);
  for (std::int64_t run = 2 * kRoom; run <= padded; run *= 2) {
    for (std::int64_t apart = run / 2; apart >= kRoom; apart /= 2)
      launch_kernel(device, info, sort_across, pairs, keys, n, padded, run, apart);
    launch_kernel(device, info, sort_within, within, keys, n, padded, run);
  }
  launch_kernel(device, info, emit_sorted, {.grid_x = grid_for(device, a.rows * a.k, kThreads, 32), .block = kThreads},
                a, keys, padded);
}

}  // namespace

void topk_launch(Device& device, const OpInfo& info, const TopKArgs& a) {
  if (a.rows == 0 || a.k == 0) return;
  if (a.k > kMostStreamed && a.columns > kRoom) return launch_sort(device, info, a);
  launch_kernel(device, info, stream_topk, {.grid_x = grid_for(device, a.rows, 1, 8), .block = kThreads}, a);
}

}  // namespace eq
