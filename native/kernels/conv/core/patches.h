// Packing of image patches into panels, straight from the image: rows of A (one pixel's patch along k) and panels of
// B whose k are pixels.
#pragma once

#include "kernels/gemm/core/pack.h"
#include "taps.h"

namespace eq::EQ_ISA {

struct GridPixel {
  std::int64_t b, p, q;
};
EQ_INLINE GridPixel grid_pixel(const TapGrid& g, std::int64_t row) {
  const std::int64_t line = row / g.x.size;
  return {line / g.y.size, line % g.y.size, row % g.x.size};
}
EQ_INLINE void advance(const TapGrid& g, GridPixel& at) {
  if (++at.q < g.x.size) return;
  at.q = 0;
  if (++at.p < g.y.size) return;
  at.p = 0;
  ++at.b;
}

/// Elements k .. k + kc of one pixel's patch.
template <class S, class T>
static void pack_patch(const TapGrid& g, const S* image, const GridPixel& at, std::int64_t k, std::int64_t kc, T* to) {
  const std::int64_t run_taps = g.merges() ? g.x.taps : 1, run = run_taps * g.channels;
  const std::int64_t end = k + kc;
  while (k < end) {
    const std::int64_t r = k / run, from = k % run;
    const std::int64_t tap = r * run_taps;  // first tap of the run
    const std::int64_t y = at.p * g.y.step + g.y.origin + tap / g.x.taps * g.y.tap_step;
    const std::int64_t x = at.q * g.x.step + g.x.origin + tap % g.x.taps * g.x.tap_step;
    const std::int64_t until = run - from < end - k ? run : from + (end - k);
    // The part of the run inside the image.
    std::int64_t low = x < 0 ? -x * g.channels : 0, high = (g.width - x) * g.channels;
    if (y < 0 || y >= g.height || high < 0) high = 0;
    low = low < from ? from : low > until ? until : low;
    high = high > until ? until : high < low ? low : high;
    zero_run(to, low - from);
    copy_run(image + ((at.b * g.height + y) * g.width + x) * g.channels + low, to + (low - from), high - low);
    zero_run(to + (high - from), until - high);
    to += until - from;
    k += until - from;
  }
}

/// A panel: the patches of n grid pixels from `row` on.
template <class S, class T>
static void pack_patches(const TapGrid& g, const S* image, std::int64_t row, std::int64_t n, std::int64_t k,
                         std::int64_t kc, std::int64_t padded, T* to) {
  GridPixel at = grid_pixel(g, row);
  for (std::int64_t i = 0; i < n; ++i, to += Panel<T>::kStride, advance(g, at)) {
    pack_patch(g, image, at, k, kc, to);
    zero_run(to + kc, padded - kc);
  }
}

/// The columns of a B panel that one tap fills: panel columns at .. at + count are channels channel .. of the tap.
struct TapColumns {
  std::int64_t j, i, channel, at, count;
};

/// Column values of one pixel at a tap, or null where the pixel is outside the image.
template <class S>
EQ_INLINE const S* tap_values(const TapGrid& g, const S* image, const GridPixel& px, const TapColumns& c) {
  const std::int64_t y = px.p * g.y.step + g.y.origin + c.j * g.y.tap_step;
  const std::int64_t x = px.q * g.x.step + g.x.origin + c.i * g.x.tap_step;
  if (y < 0 || y >= g.height || x < 0 || x >= g.width) return nullptr;
  return image + ((px.b * g.height + y) * g.width + x) * g.channels + c.channel;
}

template <class S, class T>
static void pack_tap_columns(const TapGrid& g, const S* image, const TapColumns& c, std::int64_t pixel, std::int64_t kc,
                             std::int64_t padded, std::int64_t width, T* to) {
  constexpr int kPair = Panel<T>::kPair;
  static const S zeros[kCols] = {};
  if (padded == 0) return;
  GridPixel at = grid_pixel(g, pixel);
  to += c.at * kPair;
  for (std::int64_t k = 0; k < padded; k += kPair, to += width * kPair) {
    const S *first = zeros, *second = zeros;
    if (k < kc) {
      if (const S* v = tap_values(g, image, at, c)) first = v;
      advance(g, at);
    }
    if (kPair == 2 && k + 1 < kc) {
      if (const S* v = tap_values(g, image, at, c)) second = v;
      advance(g, at);
    }
    for (std::int64_t j = 0; j < c.count; j += kLanes) {
      const std::int64_t left = c.count - j;
      if (left >= kLanes) {
        store(reinterpret_cast<float*>(to + j * kPair), unit_vector(first + j, second + j, to));
      } else {
        const vf v = unit_part(first + j, second + j, left, to);
        std::memcpy(static_cast<void*>(to + j * kPair), &v, static_cast<std::size_t>(left) * 4);
      }
    }
  }
}

/// B panel [kc pixels x columns col .. col + used of the flattened (tap, channel) axis].
template <class S, class T>
static void pack_patch_columns(const TapGrid& g, const S* image, std::int64_t col, std::int64_t used, std::int64_t width,
                               std::int64_t pixel, std::int64_t kc, std::int64_t padded, T* to) {
  if (used < width) zero_run(to, padded * width);
  for (std::int64_t at = 0; at < used;) {
    const std::int64_t tap = (col + at) / g.channels, channel = (col + at) % g.channels;
    const std::int64_t left = g.channels - channel, count = left < used - at ? left : used - at;
    pack_tap_columns(g, image, {tap / g.x.taps, tap % g.x.taps, channel, at, count}, pixel, kc, padded, width, to);
    at += count;
  }
}

}  // namespace eq::EQ_ISA
