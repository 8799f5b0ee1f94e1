// Storage types as template parameters of a kernel. A kernel is compiled for the storages that matter, with vector
// accesses, and once for `AnyFloat`, whose storage is looked up at every access: mixed storages and odd alignments.
#pragma once

#include <algorithm>

#include "runtime/cuda/vec.cuh"

namespace eq {

struct AnyFloat {};

/// The storage as told by the template, or by `type` for AnyFloat.
template <class T>
inline constexpr bool kKnownStorage = !std::is_same_v<T, AnyFloat>;

/// Elements start .. start + N of `p` as floats. N elements of a known storage are read as vectors: see load_vector.
template <class T, int N>
__device__ inline void load_at(const void* p, DType type, std::int64_t start, float (&out)[N]) {
  if constexpr (kKnownStorage<T>) {
    load_vector<N>(static_cast<const T*>(p) + start, out);
  } else {
#pragma unroll
    for (int i = 0; i < N; ++i) out[i] = load_float(p, type, start + i);
  }
}

template <class T, int N>
__device__ inline void store_at(void* p, DType type, std::int64_t start, const float (&in)[N]) {
  if constexpr (kKnownStorage<T>) {
    store_vector<N>(static_cast<T*>(p) + start, in);
  } else {
#pragma unroll
    for (int i = 0; i < N; ++i) store_float(p, type, start + i, in[i]);
  }
}

/// Elements a thread takes at a time where tensors of these storages meet: 16 bytes of the widest, or one.
template <class... T>
inline constexpr int kLanes = (kKnownStorage<T> && ...) ? 16 / static_cast<int>(std::max({sizeof(T)...})) : 1;

/// True when rows of `row_size` elements may be read in vectors of `lanes` from every one of `pointers`, whose storages
/// are at most 4 bytes wide; null pointers fit.
template <class... P>
bool all_fit(std::int64_t row_size, int lanes, const P*... pointers) {
  return (vectors_fit(pointers, DType::F32, row_size, lanes) && ...);
}

}  // namespace eq
