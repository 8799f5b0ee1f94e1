#include "op.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "kernels/elementwise/operand.h"
#include "runtime/cpu/device.h"

EQ_DECLARE_ISA(void pool_compute(const PoolArgs& a, ThreadPool& pool))
EQ_DECLARE_ISA(void pool_grad_compute(const PoolGradArgs& a, ThreadPool& pool))

namespace eq::EQ_ISA {

namespace {

constexpr std::int64_t kChannels = 256;

/// T is float or int32: what values are compared and summed as.
template <class T>
void pool_pixel(const PoolArgs& a, std::int64_t b, std::int64_t oy, std::int64_t ox, std::int64_t ch, std::int64_t n) {
  const PoolWindow& w = a.w;
  alignas(64) T acc[kChannels], buffer[kChannels];
  const T lowest = std::is_same_v<T, float> ? static_cast<T>(-__builtin_inff()) : std::numeric_limits<T>::lowest();
  std::fill_n(acc, n, a.max ? lowest : T{});
  const std::int64_t y0 = oy * w.stride_y - w.pad_top, x0 = ox * w.stride_x - w.pad_left;
  const PoolTaps rows = pool_taps(y0, w.height, w.dilation_y, w.in_height),
                 cols = pool_taps(x0, w.width, w.dilation_x, w.in_width);
  for (std::int64_t r = rows.begin; r < rows.end; ++r) {
    for (std::int64_t c = cols.begin; c < cols.end; ++c) {
      const std::int64_t at =
          ((b * w.in_height + y0 + r * w.dilation_y) * w.in_width + x0 + c * w.dilation_x) * w.channels + ch;
      const T* x = load_block(a.x, a.type, at, n, buffer);
      if (a.max)
        for (std::int64_t k = 0; k < n; ++k) acc[k] = x[k] > acc[k] ? x[k] : acc[k];
      else
        for (std::int64_t k = 0; k < n; ++k) acc[k] += x[k];
    }
  }
  if (!a.max) {
    const T count = static_cast<T>((rows.end - rows.begin) * (cols.end - cols.begin));
    if constexpr (std::is_same_v<T, float>)
      for (std::int64_t k = 0; k < n; ++k) acc[k] /= count;
  }
  const std::int64_t at = ((b * w.out_height + oy) * w.out_width + ox) * w.channels + ch;
  T* y = block_target(a.y, a.type, at, acc);
  if (y != acc) std::copy_n(acc, n, y);
  finish_block(a.y, a.type, at, n, y);
}

/// Calls body(batch, row, column, first channel, channels) for every pixel of [batch, height, width, channels].
template <class Body>
void for_pixels(ThreadPool& pool, std::int64_t batch, std::int64_t height, std::int64_t width, std::int64_t channels,
                std::int64_t work, Body body) {
  const std::int64_t grain = std::max<std::int64_t>(1, (1 << 14) / std::max<std::int64_t>(1, channels * work));
  pool.parallel_for(batch * height * width, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t u = begin; u < end; ++u)
      for (std::int64_t ch = 0; ch < channels; ch += kChannels)
        body(u / width / height, u / width % height, u % width, ch, std::min(kChannels, channels - ch));
  });
}

/// The place in the image of the first greatest element of a window, -1 where nothing is above -infinity.
void max_positions(const PoolGradArgs& a, std::int64_t b, std::int64_t oy, std::int64_t ox, std::int64_t ch,
                   std::int64_t n) {
  const PoolWindow& w = a.w;
  alignas(64) float best[kChannels], buffer[kChannels];
  std::fill_n(best, n, -__builtin_inff());
  std::int32_t* at = a.positions + ((b * w.out_height + oy) * w.out_width + ox) * w.channels + ch;
  std::fill_n(at, n, -1);
  const std::int64_t y0 = oy * w.stride_y - w.pad_top, x0 = ox * w.stride_x - w.pad_left;
  const PoolTaps rows = pool_taps(y0, w.height, w.dilation_y, w.in_height),
                 cols = pool_taps(x0, w.width, w.dilation_x, w.in_width);
  for (std::int64_t r = rows.begin; r < rows.end; ++r) {
    for (std::int64_t c = cols.begin; c < cols.end; ++c) {
      const std::int64_t pixel = (y0 + r * w.dilation_y) * w.in_width + x0 + c * w.dilation_x;
      const float* x = load_block(a.x, a.x_type, (b * w.in_height * w.in_width + pixel) * w.channels + ch, n, buffer);
      for (std::int64_t k = 0; k < n; ++k) {
        const bool better = x[k] > best[k];
        best[k] = better ? x[k] : best[k];
        at[k] = better ? static_cast<std::int32_t>(pixel) : at[k];
      }
    }
  }
}

/// dx of one pixel, gathered from the windows that cover it.
void grad_pixel(const PoolGradArgs& a, std::int64_t b, std::int64_t iy, std::int64_t ix, std::int64_t ch,
                std::int64_t n) {
  const PoolWindow& w = a.w;
  alignas(64) float acc[kChannels] = {}, buffer[kChannels];
  const auto pixel = static_cast<std::int32_t>(iy * w.in_width + ix);
  for (std::int64_t r = 0; r < w.height; ++r) {
    const std::int64_t ty = iy + w.pad_top - r * w.dilation_y, oy = ty / w.stride_y;
    if (ty < 0 || ty % w.stride_y != 0 || oy >= w.out_height) continue;
    for (std::int64_t c = 0; c < w.width; ++c) {
      const std::int64_t tx = ix + w.pad_left - c * w.dilation_x, ox = tx / w.stride_x;
      if (tx < 0 || tx % w.stride_x != 0 || ox >= w.out_width) continue;
      const std::int64_t at = ((b * w.out_height + oy) * w.out_width + ox) * w.channels + ch;
      const float* dy = load_block(a.dy, a.dy_type, at, n, buffer);
      if (a.max) {
        for (std::int64_t k = 0; k < n; ++k) acc[k] += a.positions[at + k] == pixel ? dy[k] : 0.0f;
      } else {
        const float share = 1.0f / static_cast<float>(w.height * w.width);
        for (std::int64_t k = 0; k < n; ++k) acc[k] += dy[k] * share;
      }
    }
  }
  const std::int64_t at = ((b * w.in_height + iy) * w.in_width + ix) * w.channels + ch;
  float* dx = block_target(a.dx, a.dy_type, at, acc);
  if (dx != acc) std::copy_n(acc, n, dx);
  finish_block(a.dx, a.dy_type, at, n, dx);
}

}  // namespace

void pool_compute(const PoolArgs& a, ThreadPool& pool) {
  const PoolWindow& w = a.w;
  for_pixels(pool, w.batch, w.out_height, w.out_width, w.channels, w.height * w.width,
             [&a](std::int64_t b, std::int64_t y, std::int64_t x, std::int64_t ch, std::int64_t n) {
               if (a.type == DType::I32)
                 pool_pixel<std::int32_t>(a, b, y, x, ch, n);
               else
                 pool_pixel<float>(a, b, y, x, ch, n);
             });
}

void pool_grad_compute(const PoolGradArgs& a, ThreadPool& pool) {
  const PoolWindow& w = a.w;
  if (a.max)
    for_pixels(pool, w.batch, w.out_height, w.out_width, w.channels, w.height * w.width,
               [&a](std::int64_t b, std::int64_t y, std::int64_t x, std::int64_t ch, std::int64_t n) {
                 max_positions(a, b, y, x, ch, n);
               });
  for_pixels(pool, w.batch, w.in_height, w.in_width, w.channels, w.height * w.width,
             [&a](std::int64_t b, std::int64_t y, std::int64_t x, std::int64_t ch, std::int64_t n) {
               grad_pixel(a, b, y, x, ch, n);
             });
}

}  // namespace eq::EQ_ISA

#if EQ_ISA_BASE
namespace eq {

void pool_launch(Device& device, const OpInfo& info, const PoolArgs& args) {
  cpu(device).launch(info, [args](ThreadPool& pool) { EQ_DISPATCH(pool_compute)(args, pool); });
}

void pool_grad_launch(Device& device, const OpInfo& info, const PoolGradArgs& args) {
  cpu(device).launch(info, [args](ThreadPool& pool) { EQ_DISPATCH(pool_grad_compute)(args, pool); });
}

}  // namespace eq
#endif
