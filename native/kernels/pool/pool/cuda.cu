// Pooling and its gradients. A thread computes eight neighbouring channels of one pixel (one where channels are no
// multiple of eight), walking the window in the order of the CPU's kernel: the same additions in the same order.
// Windows overlap in the first-level cache: bytes size of x + size of y. No shared memory.
//
//   pool_kernel       the greatest or the average of each window;
//   positions_kernel  for the maximum's gradient: where each window's first greatest element is;
//   grad_kernel       a pixel of dx from the windows that cover it, so that no two threads write the same sum.
//
// 256 threads, blocks to cover all packets or 32 a multiprocessor.
#include "kernels/packet.cuh"
#include "kernels/strides.cuh"
#include "op.h"

namespace eq {

namespace {

constexpr int kThreads = 256, kWaves = 32;

/// The window of output (oy, ox): its first pixel, and which of its taps are inside the image.
struct Window {
  std::int64_t y, x;
  PoolTaps rows, columns;
  __device__ Window(const PoolWindow& w, std::int64_t oy, std::int64_t ox)
      : y(oy * w.stride_y - w.pad_top),
        x(ox * w.stride_x - w.pad_left),
        rows(pool_taps(y, w.height, w.dilation_y, w.in_height)),
        columns(pool_taps(x, w.width, w.dilation_x, w.in_width)) {}
  /// The pixel of a tap.
  __device__ std::int64_t pixel(const PoolWindow& w, std::int64_t r, std::int64_t c) const {
    return (y + r * w.dilation_y) * w.in_width + x + c * w.dilation_x;
  }
};

/// T is float or int: what values are compared and summed as.
template <class T, int kWidth>
__global__ __launch_bounds__(kThreads) void pool_kernel(const PoolArgs a, const Pixels pixels) {
  const PoolWindow& w = a.w;
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kThreads;
  for (std::int64_t u = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x; u < pixels.count; u += stride) {
    std::int64_t b, oy, ox, channel;
    pixels.place(u, b, oy, ox, channel);
    channel *= kWidth;
    const Window window(w, oy, ox);
    constexpr T kLowest = std::is_same_v<T, float> ? static_cast<T>(-INFINITY) : static_cast<T>(INT32_MIN);
    T acc[kWidth], x[kWidth];
#pragma unroll
    for (int k = 0; k < kWidth; ++k) acc[k] = a.max ? kLowest : T{};
#pragma unroll 1
    for (std::int64_t r = window.rows.begin; r < window.rows.end; ++r) {
#pragma unroll 1
      for (std::int64_t c = window.columns.begin; c < window.columns.end; ++c) {
        load_some(a.x, a.type, (b * w.in_height * w.in_width + window.pixel(w, r, c)) * w.channels + channel, x);
#pragma unroll
        for (int k = 0; k < kWidth; ++k) acc[k] = !a.max ? acc[k] + x[k] : x[k] > acc[k] ? x[k] : acc[k];
      }
    }
    if constexpr (std::is_same_v<T, float>) {
      const auto count =
          static_cast<float>((window.rows.end - window.rows.begin) * (window.columns.end - window.columns.begin));
#pragma unroll
      for (int k = 0; k < kWidth; ++k) acc[k] = a.max ? acc[k] : acc[k] / count;
    }
    store_some(a.y, a.type, ((b * w.out_height + oy) * w.out_width + ox) * w.channels + channel, acc);
  }
}

/// -1 where nothing in a window is above -infinity.
template <int kWidth>
__global__ __launch_bounds__(kThreads) void positions_kernel(const PoolGradArgs a, const Pixels pixels) {
  const PoolWindow& w = a.w;
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kThreads;
  for (std::int64_t u = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x; u < pixels.count; u += stride) {
    std::int64_t b, oy, ox, channel;
    pixels.place(u, b, oy, ox, channel);
    channel *= kWidth;
    const Window window(w, oy, ox);
    float best[kWidth], x[kWidth];
    int at[kWidth];
#pragma unroll
    for (int k = 0; k < kWidth; ++k) {
      best[k] = -INFINITY;
      at[k] = -1;
    }
#pragma unroll 1
    for (std::int64_t r = window.rows.begin; r < window.rows.end; ++r) {
#pragma unroll 1
      for (std::int64_t c = window.columns.begin; c < window.columns.end; ++c) {
        const std::int64_t pixel = window.pixel(w, r, c);
        load_some(a.x, a.x_type, (b * w.in_height * w.in_width + pixel) * w.channels + channel, x);
#pragma unroll
        for (int k = 0; k < kWidth; ++k) {
          const bool better = x[k] > best[k];
          best[k] = better ? x[k] : best[k];
          at[k] = better ? static_cast<int>(pixel) : at[k];
        }
      }
    }
    store_some(a.positions, DType::I32, ((b * w.out_height + oy) * w.out_width + ox) * w.channels + channel, at);
  }
}

template <int kWidth>
__global__ __launch_bounds__(kThreads, 4) void grad_kernel(const PoolGradArgs a, const Pixels pixels,
                                                           const IndexDivisor stride_y, const IndexDivisor stride_x) {
  const PoolWindow& w = a.w;
  const float share = 1.0f / static_cast<float>(w.height * w.width);
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kThreads;
  for (std::int64_t u = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x; u < pixels.count; u += stride) {
    std::int64_t b, iy, ix, channel;
    pixels.place(u, b, iy, ix, channel);
    channel *= kWidth;
    const int pixel = static_cast<int>(iy * w.in_width + ix);
    float acc[kWidth] = {}, dy[kWidth];
    int at[kWidth];
    // Tap r of window oy reads row oy * stride + r * dilation - padding.
#pragma unroll 1
    for (std::int64_t r = 0; r < w.height; ++r) {
      std::int64_t rest_y = iy + w.pad_top - r * w.dilation_y;
      if (rest_y < 0) break;
      const std::int64_t oy = stride_y.divide(rest_y);
      if (rest_y != 0 || oy >= w.out_height) continue;
#pragma unroll 1
      for (std::int64_t c = 0; c < w.width; ++c) {
        std::int64_t rest_x = ix + w.pad_left - c * w.dilation_x;
        if (rest_x < 0) break;
        const std::int64_t ox = stride_x.divide(rest_x);
        if (rest_x != 0 || ox >= w.out_width) continue;
        const std::int64_t from = ((b * w.out_height + oy) * w.out_width + ox) * w.channels + channel;
        load_some(a.dy, a.dy_type, from, dy);
        if (a.max) {
          load_some(a.positions, DType::I32, from, at);
#pragma unroll
          for (int k = 0; k < kWidth; ++k) acc[k] += at[k] == pixel ? dy[k] : 0.0f;
        } else {
#pragma unroll
          for (int k = 0; k < kWidth; ++k) acc[k] += dy[k] * share;
        }
      }
    }
    store_some(a.dx, a.dy_type, ((b * w.in_height + iy) * w.in_width + ix) * w.channels + channel, acc);
  }
}

Launch pixel_grid(Device& device, const Pixels& pixels) {
  return {.grid_x = grid_for(device, pixels.count, kThreads, kWaves), .block = kThreads};
}

}  // namespace

void pool_launch(Device& device, const OpInfo& info, const PoolArgs& a) {
  const PoolWindow& w = a.w;
  const bool packed = w.channels % kPacket == 0 && packets_fit(a.x, a.type) && packets_fit(a.y, a.type);
  const Pixels pixels(w.batch, w.out_height, w.out_width, packed ? w.channels / kPacket : w.channels);
  if (a.type == DType::I32)
    launch_kernel(device, info, packed ? pool_kernel<int, kPacket> : pool_kernel<int, 1>, pixel_grid(device, pixels), a,
                  pixels);
  else
    launch_kernel(device, info, packed ? pool_kernel<float, kPacket> : pool_kernel<float, 1>,
                  pixel_grid(device, pixels), a, pixels);
}

void pool_grad_launch(Device& device, const OpInfo& info, const PoolGradArgs& a) {
  const PoolWindow& w = a.w;
  const bool packed = w.channels % kPacket == 0 && packets_fit(a.dy, a.dy_type) && packets_fit(a.dx, a.dy_type) &&
                      (!a.max || (packets_fit(a.x, a.x_type) && packets_fit(a.positions, DType::I32)));
  const std::int64_t each = packed ? w.channels / kPacket : w.channels;
  if (a.max) {
    const Pixels windows(w.batch, w.out_height, w.out_width, each);
    launch_kernel(device, info, packed ? positions_kernel<kPacket> : positions_kernel<1>, pixel_grid(device, windows),
                  a, windows);
  }
  const Pixels pixels(w.batch, w.in_height, w.in_width, each);
  // Coordinates plus padding stay below 2^31: check_window.
  constexpr std::int64_t kLimit = std::int64_t{1} << 31;
  launch_kernel(device, info, packed ? grad_kernel<kPacket> : grad_kernel<1>, pixel_grid(device, pixels), a, pixels,
                IndexDivisor(w.stride_y, kLimit), IndexDivisor(w.stride_x, kLimit));
}

}  // namespace eq
