// How the tile kernels see an operand: a grid of lines, each line contiguous in memory, read in chunks of 16 bytes.
//
// A k-major operand has one line per row (or column) of the product, running along k; the other kind has one line per
// step of k. A loader turns a line and a place along it into an address:
//   Line line(index), Place place(index along the line), Chunk<T> chunk(Line, Place)
// so that whatever stays the same from step to step is computed once. Beyond an operand's bounds chunks are empty: they
// read as zeros. Lines start at multiples of 16 bytes (the launchers copy operands that do not; pack.h).
#pragma once

#include <cstdint>

#include "runtime/cuda/divide.cuh"
#include "runtime/cuda/kernel.cuh"

namespace eq::tile {

template <class T>
inline constexpr int kChunk = 16 / static_cast<int>(sizeof(T));

/// `bytes` of 16 that exist, at an address that is valid even where there are none.
template <class T>
struct Chunk {
  const T* from;
  int bytes;
};

/// Bytes of a chunk that begins `left` elements before the end.
template <class T>
__device__ inline int chunk_bytes(std::int64_t left) {
  constexpr int kSize = static_cast<int>(sizeof(T));
  return left >= kChunk<T> ? 16 : left > 0 ? static_cast<int>(left) * kSize : 0;
}

/// A matrix in memory: `lines` lines of `length` elements, `pitch` apart.
template <class T, bool kMajor>
struct Dense {
  using Element = T;
  static constexpr bool kAlongK = kMajor;
  static constexpr bool kBatched = true;

  const T* data;
  std::int64_t lines, length, pitch;

  struct Line {
    const T* from;
    bool inside;
  };
  struct Place {
    std::int64_t at;
    int bytes;
  };
  __device__ void advance(std::int64_t elements) { data += elements; }
  __device__ Line line(std::int64_t i) const {
    const bool inside = i < lines;
    return {inside ? data + i * pitch : data, inside};
  }
  __device__ Place place(std::int64_t at) const {
    const int bytes = chunk_bytes<T>(length - at);
    return {bytes > 0 ? at : 0, bytes};
  }
  __device__ Chunk<T> chunk(const Line& line, const Place& place) const {
    return {line.from + place.at, line.inside ? place.bytes : 0};
  }
};

/// Copies the tile [kLines x kLength] of an operand (lines by places) that begins at (line, place) into shared memory,
/// where `Layout::at(line, chunk)` says. Consecutive threads take consecutive chunks of a line.
template <class Loader, class Layout, int kLines, int kLength, int kThreads, bool kFixedLines>
struct TileCopy {
  using T = typename Loader::Element;
  static constexpr int kRow = kLength / kChunk<T>, kStep = kThreads / kRow, kCount = kLines / kStep;
  static_assert(kThreads % kRow == 0 && kLines % kStep == 0 && kCount >= 1);

  const Loader& loader;
  std::int64_t first;  ///< of the fixed direction: line or place
  typename Loader::Line lines[kFixedLines ? kCount : 1];
  typename Loader::Place fixed;

  __device__ TileCopy(const Loader& from, std::int64_t origin) : loader(from), first(origin) {
    if constexpr (kFixedLines) {
#pragma unroll
      for (int i = 0; i < kCount; ++i) lines[i] = loader.line(origin + threadIdx.x / kRow + i * kStep);
    } else {
      fixed = loader.place(origin + threadIdx.x % kRow * kChunk<T>);
    }
  }
  /// Queues the copies of the tile at step k.
  template <class Async>
  __device__ void queue(std::int64_t k, T* to, Async async) const {
    const int column = static_cast<int>(threadIdx.x) % kRow, row = static_cast<int>(threadIdx.x) / kRow;
    if constexpr (kFixedLines) {
      const auto place = loader.place(k + column * kChunk<T>);
#pragma unroll
      for (int i = 0; i < kCount; ++i) {
        const Chunk<T> chunk = loader.chunk(lines[i], place);
        async(to + Layout::at(row + i * kStep, column), chunk.from, chunk.bytes);
      }
    } else {
#pragma unroll
      for (int i = 0; i < kCount; ++i) {
        const Chunk<T> chunk = loader.chunk(loader.line(k + row + i * kStep), fixed);
        async(to + Layout::at(row + i * kStep, column), chunk.from, chunk.bytes);
      }
    }
  }
};

}  // namespace eq::tile
