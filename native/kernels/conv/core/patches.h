// Packing of image patches into panels, straight from the image: rows of A (one pixel's patch along k) and panels of
// B whose k are pixels.
#pragma once

#include "kernels/gemm/core/pack.h"
#include "taps.h"

#include <algorithm>

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

/// What of a tap's run of memory lies inside a panel's steps of k.
struct PatchRun {
  std::int64_t y, x;         // image offset of the run's first tap from a grid pixel's origin
  std::int64_t taps;         // of the run
  std::int64_t from, until;  // elements of the run
};

template <class S, class T>
EQ_INLINE void copy_patch_run(const TapGrid& g, const S* image, std::int64_t b, std::int64_t y, std::int64_t x,
                              const PatchRun& run, T* to) {
  const S* source = image + ((b * g.height + y) * g.width + x) * g.channels;
  if (y >= 0 && y < g.height && x >= 0 && x + run.taps <= g.width) {
    copy_run(source + run.from, to, run.until - run.from);
    return;
  }
  // The part of the run inside the image.
  std::int64_t low = x < 0 ? -x * g.channels : 0, high = (g.width - x) * g.channels;
  if (y < 0 || y >= g.height || high < 0) high = 0;
  low = low < run.from ? run.from : low > run.until ? run.until : low;
  high = high > run.until ? run.until : high < low ? low : high;
  zero_run(to, low - run.from);
  if (low < high) copy_run(source + low, to + (low - run.from), high - low);
  zero_run(to + (high - run.from), run.until - high);
}

/// With so few channels a panel's pixels take less time than memory takes to deliver the next ones.
constexpr std::int64_t kFewChannels = 128;

/// Asks for n values that lie 2 KB beyond `from`; they need not exist.
template <class S>
EQ_INLINE void fetch_ahead(const S* from, std::int64_t n) {
  const auto first = reinterpret_cast<std::uintptr_t>(from) + 2048;
  const auto bytes = static_cast<std::uintptr_t>(n) * sizeof(S);
  for (std::uintptr_t at = 0; at < bytes; at += 64) __builtin_prefetch(reinterpret_cast<const void*>(first + at));
}

/// A panel: elements k .. k + kc of the patches of n grid pixels from `row` on.
template <class S, class T>
static void pack_patches(const TapGrid& g, const S* image, std::int64_t row, std::int64_t n, std::int64_t k,
                         std::int64_t kc, std::int64_t padded, T* to) {
  constexpr std::int64_t kStride = Panel<T>::kStride;
  GridPixel pixels[kMaxRows];
  pixels[0] = grid_pixel(g, row);
  for (std::int64_t i = 1; i < n; ++i) {
    pixels[i] = pixels[i - 1];
    advance(g, pixels[i]);
  }
  const std::int64_t run_taps = g.merges() ? g.x.taps : 1, length = run_taps * g.channels;
  for (std::int64_t at = 0; at < kc;) {
    const std::int64_t from = (k + at) % length, tap = (k + at) / length * run_taps;
    const std::int64_t left = length - from, count = left < kc - at ? left : kc - at;
    const PatchRun run{g.y.origin + tap / g.x.taps * g.y.tap_step, g.x.origin + tap % g.x.taps * g.x.tap_step, run_taps,
                       from, from + count};
    for (std::int64_t i = 0; i < n;) {
      const GridPixel& px = pixels[i];
      const std::int64_t y = px.p * g.y.step + run.y, x = px.q * g.x.step + run.x;
      // Neighbours on the same line go together as long as their runs lie inside the image.
      const std::int64_t room = g.width - run.taps - x;
      if (y < 0 || y >= g.height || x < 0 || room < 0) {
        copy_patch_run(g, image, px.b, y, x, run, to + i * kStride + at);
        ++i;
        continue;
      }
      std::int64_t together = std::min(n - i, g.x.size - px.q);
      if ((together - 1) * g.x.step > room) together = room / g.x.step + 1;
      const S* source = image + ((px.b * g.height + y) * g.width + x) * g.channels + run.from;
      copy_runs(source, g.x.step * g.channels, to + i * kStride + at, count, together);
      if (g.channels <= kFewChannels)
        fetch_ahead(source + together * g.x.step * g.channels, together * g.x.step * g.channels);
      i += together;
    }
    at += count;
  }
  for (std::int64_t i = 0; i < n && kc < padded; ++i) zero_run(to + i * kStride + kc, padded - kc);
}

/// The columns of a B panel that one tap fills: panel columns at .. at + count are channels channel .. of the tap.
struct TapColumns {
  std::int64_t j, i, channel, at, count;
};

/// Where the values of kc pixels from `pixel` on begin at a tap; outside the image, at zeros.
template <class S>
static void tap_pointers(const TapGrid& g, const S* image, const TapColumns& c, std::int64_t pixel, std::int64_t kc,
                         const S** to) {
  GridPixel at = grid_pixel(g, pixel);
  for (std::int64_t k = 0; k < kc; ++at.p, at.q = 0) {
    if (at.p == g.y.size) {
      at.p = 0;
      ++at.b;
    }
    const std::int64_t y = at.p * g.y.step + g.y.origin + c.j * g.y.tap_step;
    const std::int64_t count = g.x.size - at.q < kc - k ? g.x.size - at.q : kc - k;
    if (y < 0 || y >= g.height) {
      for (std::int64_t i = 0; i < count; ++i) to[k++] = zeros<S>();
      continue;
    }
    std::int64_t x = at.q * g.x.step + g.x.origin + c.i * g.x.tap_step;
    const S* line = image + (at.b * g.height + y) * g.width * g.channels + c.channel;
    for (std::int64_t i = 0; i < count; ++i, x += g.x.step)
      to[k++] = x < 0 || x >= g.width ? zeros<S>() : line + x * g.channels;
  }
}

template <class S, class T>
static void pack_tap_columns(const TapGrid& g, const S* image, const TapColumns& c, std::int64_t pixel, std::int64_t kc,
                             std::int64_t padded, std::int64_t width, T* to) {
  constexpr int kPair = Panel<T>::kPair;
  const S* pointers[Panel<T>::kDepth];
  tap_pointers(g, image, c, pixel, kc, pointers);
  for (std::int64_t k = kc; k < padded; ++k) pointers[k] = zeros<S>();
  to += c.at * kPair;
  if (c.count == kCols) {
    for (std::int64_t k = 0; k < padded; k += kPair, to += kCols * kPair)
      for (std::int64_t j = 0; j < kCols; j += kLanes)
        store(reinterpret_cast<float*>(to + j * kPair), units(pointers[k] + j, pointers[k + kPair - 1] + j, to));
    return;
  }
  for (std::int64_t k = 0; k < padded; k += kPair, to += width * kPair) {
    for (std::int64_t j = 0; j < c.count; j += kLanes) {
      const std::int64_t left = c.count - j;
      auto* at = reinterpret_cast<float*>(to + j * kPair);
      if (left >= kLanes)
        store(at, units(pointers[k] + j, pointers[k + kPair - 1] + j, to));
      else
        write_part(at, units(pointers[k] + j, pointers[k + kPair - 1] + j, to, left), left);
    }
  }
}

/// B panel [kc pixels x columns col .. col + used of the flattened (tap, channel) axis].
template <class S, class T>
static void pack_patch_columns(const TapGrid& g, const S* image, std::int64_t col, std::int64_t used,
                               std::int64_t width, std::int64_t pixel, std::int64_t kc, std::int64_t padded, T* to) {
  if (padded == 0) return;
  if (used < width) zero_run(to, padded * width);
  for (std::int64_t at = 0; at < used;) {
    const std::int64_t tap = (col + at) / g.channels, channel = (col + at) % g.channels;
    const std::int64_t left = g.channels - channel, count = left < used - at ? left : used - at;
    pack_tap_columns(g, image, {tap / g.x.taps, tap % g.x.taps, channel, at, count}, pixel, kc, padded, width, to);
    at += count;
  }
}

}  // namespace eq::EQ_ISA
