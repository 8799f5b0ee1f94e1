// Operands of convolutions for the tile kernels (kernels/gemm/core/tile_loader.cuh), read where they lie.
//
// Patches: line = pixel of a TapGrid (taps.h), place = (tap, channel) in the order of the filter's rows. The same
// loader serves sums over patches (forward, image gradient: lines are rows of the product) and over pixels (filter
// gradient: lines are steps of k). The number of channels is a multiple of a chunk, so a chunk lies in one tap.
#pragma once

#include "kernels/conv/core/taps.h"
#include "kernels/gemm/core/tile_loader.cuh"

namespace eq::tile {

template <class T, bool kLinesAreRows>
struct Patches {
  using Element = T;
  static constexpr bool kAlongK = kLinesAreRows;
  static constexpr bool kBatched = false;

  const T* data;
  std::int64_t pixels, depth;
  int height, width, channels;
  int step_y, step_x, origin_y, origin_x, tap_step_y, tap_step_x;
  Divisor grid_width, grid_height, channels_of, taps_x;

  struct Line {
    std::int64_t at;  ///< of image pixel (y, x), channel 0, which may lie outside
    int y, x;
  };
  struct Place {
    std::int64_t at;
    int y, x, bytes;
  };

  __device__ Line line(std::int64_t i) const {
    // Pixels beyond the grid stand far below the image.
    if (i >= pixels) return {0, kFar, 0};
    auto b = static_cast<std::uint32_t>(i);
    const std::uint32_t q = grid_width.split(b), p = grid_height.split(b);
    const std::int64_t y = std::int64_t{p} * step_y + origin_y, x = std::int64_t{q} * step_x + origin_x;
    return {((std::int64_t{b} * height + y) * width + x) * channels, static_cast<int>(y < kFar ? y : kFar),
            static_cast<int>(x < kFar ? x : kFar)};
  }
  __device__ Place place(std::int64_t i) const {
    if (i >= depth) return {0, 0, 0, 0};
    auto tap = static_cast<std::uint32_t>(i);
    const std::uint32_t channel = channels_of.split(tap);
    const std::uint32_t s = taps_x.split(tap);
    const int y = static_cast<int>(tap) * tap_step_y, x = static_cast<int>(s) * tap_step_x;
    return {(std::int64_t{y} * width + x) * channels + channel, y, x, 16};
  }
  __device__ Chunk<T> chunk(const Line& line, const Place& place) const {
    const bool inside = static_cast<unsigned>(line.y + place.y) < static_cast<unsigned>(height) &&
                        static_cast<unsigned>(line.x + place.x) < static_cast<unsigned>(width);
    return {inside ? data + (line.at + place.at) : data, inside ? place.bytes : 0};
  }

  /// Coordinates stay below: images and reaches of taps are smaller (checked by make_patches).
  static constexpr int kFar = 1 << 30;
};

/// Rows of the filter for the image gradient: line = input channel, place = (tap of the grid, output channel).
template <class T>
struct TapRows {
  using Element = T;
  static constexpr bool kAlongK = true;
  static constexpr bool kBatched = false;

  const T* data;  ///< [filter height, filter width, lines, depth]
  std::int64_t lines, depth, total;
  int filter_width, first_y, first_x, step_y, step_x;
  Divisor depth_of, taps_x;

  struct Line {
    const T* from;
    bool inside;
  };
  struct Place {
    std::int64_t at;
    int bytes;
  };
  __device__ Line line(std::int64_t i) const { return {i < lines ? data + i * depth : data, i < lines}; }
  __device__ Place place(std::int64_t i) const {
    if (i >= total) return {0, 0};
    auto tap = static_cast<std::uint32_t>(i);
    const std::uint32_t channel = depth_of.split(tap);
    const std::uint32_t s = taps_x.split(tap);
    const std::int64_t r = first_y + static_cast<int>(tap) * step_y;
    return {((r * filter_width + first_x + static_cast<int>(s) * step_x) * lines) * depth + channel, 16};
  }
  __device__ Chunk<T> chunk(const Line& line, const Place& place) const {
    return {line.from + place.at, line.inside ? place.bytes : 0};
  }
};

/// Checks what 32-bit coordinates can hold. `channels` are those of the copy that is read.
template <class T, bool kLinesAreRows>
Patches<T, kLinesAreRows> make_patches(const char* op, const TapGrid& grid, const void* image, std::int64_t channels) {
  constexpr std::int64_t kLimit = Patches<T, kLinesAreRows>::kFar;
  const auto small = [&](const TapAxis& axis, std::int64_t size) {
    return size < kLimit && axis.step < kLimit && -axis.origin < kLimit && axis.origin < kLimit &&
           axis.taps * axis.tap_step < kLimit && axis.tap_step < kLimit;
  };
  const std::int64_t depth = grid.y.taps * grid.x.taps * channels;
  check_range(small(grid.y, grid.height) && small(grid.x, grid.width) && grid.rows() < kLimit * 2 && depth < kLimit * 2,
              op, ": images, windows and their reach must stay below 2^30 pixels, and their number below 2^31");
  Patches<T, kLinesAreRows> p{};
  p.data = static_cast<const T*>(image);
  p.pixels = grid.rows();
  p.depth = depth;
  p.height = static_cast<int>(grid.height);
  p.width = static_cast<int>(grid.width);
  p.channels = static_cast<int>(channels);
  p.step_y = static_cast<int>(grid.y.step);
  p.step_x = static_cast<int>(grid.x.step);
  p.origin_y = static_cast<int>(grid.y.origin);
  p.origin_x = static_cast<int>(grid.x.origin);
  p.tap_step_y = static_cast<int>(grid.y.tap_step);
  p.tap_step_x = static_cast<int>(grid.x.tap_step);
  p.grid_width = Divisor(std::max<std::int64_t>(1, grid.x.size));
  p.grid_height = Divisor(std::max<std::int64_t>(1, grid.y.size));
  p.channels_of = Divisor(std::max<std::int64_t>(1, channels));
  p.taps_x = Divisor(std::max<std::int64_t>(1, grid.x.taps));
  return p;
}

template <class T>
TapRows<T> make_tap_rows(const TapGrid& grid, const void* filter, std::int64_t filter_width, std::int64_t lines,
                         std::int64_t depth) {
  TapRows<T> t{};
  t.data = static_cast<const T*>(filter);
  t.lines = lines;
  t.depth = depth;
  t.total = grid.y.taps * grid.x.taps * depth;
  t.filter_width = static_cast<int>(filter_width);
  t.first_y = static_cast<int>(grid.y.filter_first);
  t.first_x = static_cast<int>(grid.x.filter_first);
  t.step_y = static_cast<int>(grid.y.filter_step);
  t.step_x = static_cast<int>(grid.x.filter_step);
  t.depth_of = Divisor(std::max<std::int64_t>(1, depth));
  t.taps_x = Divisor(std::max<std::int64_t>(1, grid.x.taps));
  return t;
}

}  // namespace eq::tile
