// A convolution as a product of matrices: row = pixel of a grid, k = (tap row, tap column, channel).
//
// Grid pixel (b, p, q) meets image pixel (p step_y + origin_y + j tap_step_y, q step_x + origin_x + i tap_step_x) at
// tap (j, i). The forward convolution is such a grid; so is the transposed one, one grid per residue of the output
// pixel modulo the stride: only the taps that meet a pixel of dy take part, and no zeros are multiplied.
#pragma once

#include <cstdint>

namespace eq {

/// One axis of a grid.
struct TapAxis {
  std::int64_t size;          ///< grid pixels
  std::int64_t taps;          ///< may be 0
  std::int64_t step;          ///< image pixels per grid pixel
  std::int64_t origin;        ///< image pixel of grid pixel 0 at tap 0
  std::int64_t tap_step;      ///< image pixels per tap, positive
  std::int64_t filter_first;  ///< the filter's row or column of tap 0
  std::int64_t filter_step;   ///< may be negative
  std::int64_t out_first;     ///< output pixel of grid pixel 0
  std::int64_t out_step;
};

constexpr TapAxis forward_axis(std::int64_t out, std::int64_t taps, std::int64_t stride, std::int64_t dilation,
                               std::int64_t before) {
  return {out, taps, stride, -before, dilation, 0, 1, 0, 1};
}

constexpr std::int64_t greatest_divisor(std::int64_t a, std::int64_t b) {
  while (b != 0) {
    const std::int64_t r = a % b;
    a = b;
    b = r;
  }
  return a;
}

/// Pixels h = phase, phase + stride, ... of the image gradient: dy row (h + before - r dilation) / stride meets
/// filter row r where the division is exact. Taps run from the largest r, so that dy rows ascend.
constexpr TapAxis transposed_axis(std::int64_t size, std::int64_t taps, std::int64_t stride, std::int64_t dilation,
                                  std::int64_t before, std::int64_t phase) {
  TapAxis axis{size > phase ? (size - phase + stride - 1) / stride : 0, 0, 1, 0, 1, 0, 0, phase, stride};
  const std::int64_t g = greatest_divisor(dilation, stride), period = stride / g;
  std::int64_t first = 0;
  while (first < period && (phase + before - first * dilation) % stride != 0) ++first;
  if (first == period || first >= taps) return axis;
  axis.taps = (taps - first + period - 1) / period;
  axis.tap_step = dilation / g;
  axis.filter_first = first + (axis.taps - 1) * period;
  axis.filter_step = -period;
  axis.origin = (phase + before - axis.filter_first * dilation) / stride;
  return axis;
}

struct TapGrid {
  std::int64_t batch, height, width, channels;  ///< of the image that is read
  TapAxis y, x;

  std::int64_t rows() const { return batch * y.size * x.size; }
  std::int64_t depth() const { return y.taps * x.taps * channels; }
  /// Neighbouring taps of a row read neighbouring pixels: one run of memory.
  bool merges() const { return x.tap_step == 1; }
};

}  // namespace eq
