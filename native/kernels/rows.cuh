// Copies of whole rows that something names: y[r, :] = x[source(r), :]. Gathers and nearest-neighbour resizing.
//
// A row is cut into the widest words of 16, 4, 2 or 1 bytes that divide it and both addresses; a thread moves one word
// at a time and neighbours move neighbouring words, four of them under way. `Source` is a functor with
// `__device__ std::int64_t operator()(std::int64_t row) const`, -1 for a row that is left alone.
#pragma once

#include "kernels/strides.cuh"

namespace eq {

inline constexpr int kRowThreads = 256, kRowWords = 4;

template <class W, class Source>
__global__ __launch_bounds__(kRowThreads) void rows_kernel(const W* x, W* y, const __grid_constant__ Source source,
                                                           const IndexDivisor words, const std::int64_t row_words,
                                                           const std::int64_t n) {
  constexpr int kChunk = kRowThreads * kRowWords;
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kChunk;
  for (std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * kChunk + threadIdx.x; first < n; first += stride) {
    W values[kRowWords];
    bool kept[kRowWords];
#pragma unroll
    for (int j = 0; j < kRowWords; ++j) {
      std::int64_t word = first + j * kRowThreads;
      kept[j] = word < n;
      if (!kept[j]) continue;
      const std::int64_t row = source(words.divide(word));
      kept[j] = row >= 0;
      if (kept[j]) values[j] = __ldg(x + row * row_words + word);
    }
#pragma unroll
    for (int j = 0; j < kRowWords; ++j)
      if (kept[j]) y[first + j * kRowThreads] = values[j];
  }
}

namespace detail {
template <class W, class Source>
void launch_rows(Device& device, const OpInfo& info, const void* x, void* y, std::int64_t rows, std::int64_t row_bytes,
                 const Source& source) {
  const auto row_words = row_bytes / static_cast<std::int64_t>(sizeof(W));
  const std::int64_t n = rows * row_words;
  launch_kernel(device, info, rows_kernel<W, Source>,
                {.grid_x = grid_for(device, n, kRowThreads * kRowWords, 32), .block = kRowThreads},
                static_cast<const W*>(x), static_cast<W*>(y), source, IndexDivisor(row_words, n), row_words, n);
}
}  // namespace detail

template <class Source>
void copy_rows(Device& device, const OpInfo& info, const void* x, void* y, std::int64_t rows, std::int64_t row_bytes,
               const Source& source) {
  if (rows == 0 || row_bytes == 0) return;
  const auto bits = reinterpret_cast<std::uintptr_t>(x) | reinterpret_cast<std::uintptr_t>(y) |
                    static_cast<std::uintptr_t>(row_bytes);
  if (bits % 16 == 0)
    detail::launch_rows<uint4>(device, info, x, y, rows, row_bytes, source);
  else if (bits % 4 == 0)
    detail::launch_rows<unsigned>(device, info, x, y, rows, row_bytes, source);
  else if (bits % 2 == 0)
    detail::launch_rows<std::uint16_t>(device, info, x, y, rows, row_bytes, source);
  else
    detail::launch_rows<std::uint8_t>(device, info, x, y, rows, row_bytes, source);
}

}  // namespace eq
