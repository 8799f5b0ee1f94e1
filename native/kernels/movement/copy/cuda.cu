// Strided copies, three ways.  Bytes 2n * size; no arithmetic but the walk through the loops.
//
//   words     both sides walk the innermost loop densely (slices, concat, pad, permuted heads): it is copied in the
//   widest
//             words of 16, 8, 4 or 2 bytes that divide its length, every other step and both addresses.
//   tiles     y walks the innermost loop densely and x another one (transposes): squares go through shared memory, so
//             that both sides touch whole sectors; two-byte elements are read and written in pairs where all is even.
//   elements  the rest (reversals, strided slices, diagonals, squares with a side under 16): neighbours in y belong to
//             neighbouring threads; x is read through the first-level cache.
//
// Launch: 256 threads; blocks to cover the copy, at most 32 a multiprocessor. Words and elements: four a thread, 256
// apart, so that four loads are under way. Tiles: 32 x 33 words (4.2 KB) or, for pairs, 64 x 33 (8.4 KB) shared.
#include "kernels/strides.cuh"
#include "op.h"

namespace eq {

namespace {

using CopyNest = Nest<2, Loops::kMaxRank>;

constexpr int kThreads = 256, kPerThread = 4, kWaves = 32;

template <class W>
__global__ __launch_bounds__(kThreads) void copy_elements(const W* x, W* y, const __grid_constant__ CopyNest nest,
                                                          const std::int64_t n) {
  constexpr int kChunk = kThreads * kPerThread;
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kChunk;
  for (std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * kChunk + threadIdx.x; first < n; first += stride) {
    W values[kPerThread];
    std::int64_t to[kPerThread];
#pragma unroll
    for (int j = 0; j < kPerThread; ++j) {
      const std::int64_t i = first + j * kThreads;
      if (i >= n) break;
      std::int64_t at[2];
      nest.offsets(i, at);
      values[j] = __ldg(x + at[0]);
      to[j] = at[1];
    }
#pragma unroll
    for (int j = 0; j < kPerThread; ++j)
      if (first + j * kThreads < n) y[to[j]] = values[j];
  }
}

/// A transpose: element (r, c) of a slice lies at r + c * x_col in x and at r * y_row + c in y.
struct Tiles {
  std::int64_t rows, cols, x_col, y_row, count;
  IndexDivisor row_tiles, col_tiles;
  CopyNest slices;
};

/// Finds tile t: its first row and column, and where its slice starts.
__device__ inline void find_tile(const Tiles& tiles, int side, std::int64_t t, std::int64_t& row, std::int64_t& col,
                                 std::int64_t (&at)[2]) {
  std::int64_t slice = tiles.col_tiles.divide(t);
  col = t * side;
  const std::int64_t rest = tiles.row_tiles.divide(slice);
  row = slice * side;
  tiles.slices.offsets(rest, at);
}

constexpr int kSide = 32, kStrip = kThreads / kSide;

template <class T>
__global__ __launch_bounds__(kThreads) void copy_tiles(const T* x, T* y, const __grid_constant__ Tiles tiles) {
  __shared__ unsigned tile[kSide][kSide + 1];
  const int lane = threadIdx.x % kSide, strip = threadIdx.x / kSide;
  for (std::int64_t t = blockIdx.x; t < tiles.count; t += gridDim.x) {
    std::int64_t row, col, at[2];
    find_tile(tiles, kSide, t, row, col, at);
    const T* from = x + at[0] + (row + lane) + col * tiles.x_col;
#pragma unroll
    for (int j = 0; j < kSide; j += kStrip)
      if (row + lane < tiles.rows && col + strip + j < tiles.cols)
        tile[strip + j][lane] = __ldg(from + (strip + j) * tiles.x_col);
    __syncthreads();
    T* to = y + at[1] + row * tiles.y_row + (col + lane);
#pragma unroll
    for (int j = 0; j < kSide; j += kStrip)
      if (col + lane < tiles.cols && row + strip + j < tiles.rows)
        to[(strip + j) * tiles.y_row] = static_cast<T>(tile[lane][strip + j]);
    __syncthreads();
  }
}

/// Two-byte elements in pairs: 64 x 64 of them a tile, as words of two rows on one side and of two columns on the
/// other.
__global__ __launch_bounds__(kThreads) void copy_pair_tiles(const std::uint16_t* x, std::uint16_t* y,
                                                            const __grid_constant__ Tiles tiles) {
  __shared__ unsigned tile[2 * kSide][kSide + 1];
  const int lane = threadIdx.x % kSide, strip = threadIdx.x / kSide;
  for (std::int64_t t = blockIdx.x; t < tiles.count; t += gridDim.x) {
    std::int64_t row, col, at[2];
    find_tile(tiles, 2 * kSide, t, row, col, at);
    const std::uint16_t* from = x + at[0] + (row + 2 * lane) + col * tiles.x_col;
#pragma unroll
    for (int j = 0; j < 2 * kSide; j += kStrip)
      if (row + 2 * lane < tiles.rows && col + strip + j < tiles.cols)
        tile[strip + j][lane] = __ldg(reinterpret_cast<const unsigned*>(from + (strip + j) * tiles.x_col));
    __syncthreads();
    std::uint16_t* to = y + at[1] + row * tiles.y_row + (col + 2 * lane);
#pragma unroll
    for (int j = 0; j < kSide; j += kStrip) {
      if (col + 2 * lane < tiles.cols && row + 2 * (strip + j) < tiles.rows) {
        const unsigned a = tile[2 * lane][strip + j], b = tile[2 * lane + 1][strip + j];
        std::uint16_t* pair = to + 2 * (strip + j) * tiles.y_row;
        *reinterpret_cast<unsigned*>(pair) = (a & 0xffffu) | b << 16;
        *reinterpret_cast<unsigned*>(pair + tiles.y_row) = a >> 16 | (b & 0xffff0000u);
      }
    }
    __syncthreads();
  }
}

/// The largest power of two up to 16 that divides the addresses, the dense innermost loop and all steps, in bytes.
std::int64_t word_bytes(const CopyArgs& a) {
  const auto size = static_cast<std::int64_t>(a.element_size);
  const int last = a.loops.rank - 1;
  std::uint64_t bits = reinterpret_cast<std::uintptr_t>(a.x) | reinterpret_cast<std::uintptr_t>(a.y) | 16u |
                       static_cast<std::uint64_t>(a.loops.size[last] * size);
  for (int k = 0; k < 2; ++k)
    for (int d = 0; d < last; ++d) bits |= static_cast<std::uint64_t>(a.loops.step[k][d] * size);
  return static_cast<std::int64_t>(bits & (~bits + 1));
}

template <class W>
void launch_elements(Device& device, const OpInfo& info, const CopyArgs& a, const Loops& loops) {
  const std::int64_t n = loops.count();
  launch_kernel(device, info, copy_elements<W>,
                {.grid_x = grid_for(device, n, kThreads * kPerThread, kWaves), .block = kThreads},
                static_cast<const W*>(a.x), static_cast<W*>(a.y), CopyNest(loops), n);
}

/// Words of `bytes`, of which the loops, given in elements, are made.
void launch_words(Device& device, const OpInfo& info, const CopyArgs& a, std::int64_t bytes) {
  const std::int64_t elements = bytes / static_cast<std::int64_t>(a.element_size);
  Loops loops = a.loops;
  const int last = loops.rank - 1;
  if (elements > 1) {
    loops.size[last] /= elements;
    for (int k = 0; k < 2; ++k)
      for (int d = 0; d < last; ++d) loops.step[k][d] /= elements;
    loops.collapse();  // an innermost loop of one word goes away
  }
  switch (bytes) {
    case 16:
      return launch_elements<uint4>(device, info, a, loops);
    case 8:
      return launch_elements<uint2>(device, info, a, loops);
    case 4:
      return launch_elements<unsigned>(device, info, a, loops);
    case 2:
      return launch_elements<std::uint16_t>(device, info, a, loops);
    default:
      return launch_elements<std::uint8_t>(device, info, a, loops);
  }
}

/// The transpose that moves loop `other`, dense in x, to the innermost one, dense in y.
Tiles make_tiles(const Loops& loops, int other, int side) {
  const int last = loops.rank - 1;
  Tiles tiles{};
  tiles.rows = loops.size[other];
  tiles.cols = loops.size[last];
  tiles.x_col = loops.step[0][last];
  tiles.y_row = loops.step[1][other];
  const std::int64_t row_tiles = (tiles.rows + side - 1) / side, col_tiles = (tiles.cols + side - 1) / side;
  Loops slices;
  slices.operands = 2;
  for (int d = 0; d < last; ++d) {
    if (d == other) continue;
    slices.size[slices.rank] = loops.size[d];
    for (int k = 0; k < 2; ++k) slices.step[k][slices.rank] = loops.step[k][d];
    ++slices.rank;
  }
  tiles.count = slices.count() * row_tiles * col_tiles;
  tiles.row_tiles = IndexDivisor(row_tiles, tiles.count);
  tiles.col_tiles = IndexDivisor(col_tiles, tiles.count);
  tiles.slices = CopyNest(slices);
  return tiles;
}

template <class T>
void launch_tiles(Device& device, const OpInfo& info, const CopyArgs& a, const Tiles& tiles,
                  void (*kernel)(const T*, T*, Tiles)) {
  launch_kernel(device, info, kernel, {.grid_x = grid_for(device, tiles.count, 1, kWaves), .block = kThreads},
                static_cast<const T*>(a.x), static_cast<T*>(a.y), tiles);
}

/// Whether a transpose of two-byte elements touches words only.
bool pairs_fit(const CopyArgs& a, int other) {
  const int last = a.loops.rank - 1;
  std::uint64_t odd = (reinterpret_cast<std::uintptr_t>(a.x) | reinterpret_cast<std::uintptr_t>(a.y)) / 2 |
                      static_cast<std::uint64_t>(a.loops.size[last] | a.loops.size[other]);
  for (int d = 0; d <= last; ++d) {
    if (d != other) odd |= static_cast<std::uint64_t>(a.loops.step[0][d]);
    if (d != last) odd |= static_cast<std::uint64_t>(a.loops.step[1][d]);
  }
  return odd % 2 == 0;
}

void transpose(Device& device, const OpInfo& info, const CopyArgs& a, int other) {
  if (a.element_size == 2 && pairs_fit(a, other))
    launch_tiles(device, info, a, make_tiles(a.loops, other, 2 * kSide), copy_pair_tiles);
  else if (a.element_size == 4)
    launch_tiles(device, info, a, make_tiles(a.loops, other, kSide), copy_tiles<std::uint32_t>);
  else if (a.element_size == 2)
    launch_tiles(device, info, a, make_tiles(a.loops, other, kSide), copy_tiles<std::uint16_t>);
  else
    launch_tiles(device, info, a, make_tiles(a.loops, other, kSide), copy_tiles<std::uint8_t>);
}

}  // namespace

void copy_launch(Device& device, const OpInfo& info, const CopyArgs& args) {
  const Loops& loops = args.loops;
  const int last = loops.rank - 1;
  if (loops.step[0][last] == 1 && loops.step[1][last] == 1) return launch_words(device, info, args, word_bytes(args));
  // A side of a square that is mostly empty wastes the threads that wait for it.
  constexpr std::int64_t kShortest = 16;
  if (loops.step[1][last] == 1 && loops.size[last] >= kShortest) {
    for (int d = 0; d < last; ++d)
      if (loops.step[0][d] == 1 && loops.size[d] >= kShortest) return transpose(device, info, args, d);
  }
  launch_words(device, info, args, static_cast<std::int64_t>(args.element_size));
}

}  // namespace eq
