// Resizing. Nearest neighbours forward are a copy of pixels (rows.cuh): bytes size of x + size of y, any storage. The
// rest takes eight channels of one pixel a thread (one where channels are no multiple of eight) and computes its taps,
// a few operations in double precision. The gradient gathers: a thread finds the rows and columns of dy that read its
// pixel and adds them in the order of the CPU's kernel, so that no two threads write the same sum.
//
// 256 threads, blocks to cover all packets or 32 a multiprocessor.
#include "kernels/packet.cuh"
#include "kernels/rows.cuh"
#include "op.h"

namespace eq {

namespace {

constexpr int kThreads = 256, kWaves = 32;

struct Nearest {
  Pixels out;
  ResizeScale rows, columns;
  __device__ std::int64_t operator()(std::int64_t pixel) const {
    std::int64_t batch, y, x, one;
    out.place(pixel, batch, y, x, one);
    return (batch * rows.in + rows.tap(y).first) * columns.in + columns.tap(x).first;
  }
};

template <int kWidth>
__global__ __launch_bounds__(kThreads) void bilinear_kernel(const ResizeArgs a, const Pixels out,
                                                            const ResizeScale rows, const ResizeScale columns) {
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kThreads;
  for (std::int64_t u = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x; u < out.count; u += stride) {
    std::int64_t b, y, x, packet;
    out.place(u, b, y, x, packet);
    const ResizeTap row = rows.tap(y), column = columns.tap(x);
    const std::int64_t top = (b * a.in_height + row.first) * a.in_width,
                       bottom = (b * a.in_height + row.second) * a.in_width, channel = packet * kWidth;
    float tl[kWidth], tr[kWidth], bl[kWidth], br[kWidth];
    load_some(a.x, a.type, (top + column.first) * a.channels + channel, tl);
    load_some(a.x, a.type, (top + column.second) * a.channels + channel, tr);
    load_some(a.x, a.type, (bottom + column.first) * a.channels + channel, bl);
    load_some(a.x, a.type, (bottom + column.second) * a.channels + channel, br);
#pragma unroll
    for (int k = 0; k < kWidth; ++k) {
      const float upper = tl[k] + (tr[k] - tl[k]) * column.weight, lower = bl[k] + (br[k] - bl[k]) * column.weight;
      tl[k] = upper + (lower - upper) * row.weight;
    }
    store_some(a.y, a.type, u * kWidth, tl);
  }
}

/// The first output row (or column) that may read row i: all before it read rows above only.
__device__ inline std::int64_t first_reader(const ResizeScale& scale, std::int64_t i, std::int64_t out) {
  // A guess, which the taps themselves put right.
  const double near = scale.ratio > 0 ? static_cast<double>(i - 1) / scale.ratio - 1 : 0;
  std::int64_t at = near < 0 ? 0 : near > static_cast<double>(out) ? out : static_cast<std::int64_t>(near);
  while (at > 0 && scale.tap(at - 1).second >= i) --at;
  while (at < out && scale.tap(at).second < i) ++at;
  return at;
}

template <int kWidth>
__global__ __launch_bounds__(kThreads, 4) void grad_kernel(const ResizeArgs a, const Pixels in, const ResizeScale rows,
                                                           const ResizeScale columns) {
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kThreads;
  for (std::int64_t u = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x; u < in.count; u += stride) {
    std::int64_t b, y, x, packet;
    in.place(u, b, y, x, packet);
    float sums[kWidth] = {}, dy[kWidth];
    const std::int64_t left = first_reader(columns, x, a.out_width);
    for (std::int64_t r = first_reader(rows, y, a.out_height); r < a.out_height; ++r) {
      const ResizeTap row = rows.tap(r);
      if (row.first > y) break;
      // Its first tap and then its second, if they read row y: both do where they meet at the edge.
      for (int second = 0; second < 2; ++second) {
        const float weight = second ? row.weight : 1 - row.weight;
        if ((second ? row.second : row.first) != y || (second && row.weight == 0)) continue;
        for (std::int64_t c = left; c < a.out_width; ++c) {
          const ResizeTap column = columns.tap(c);
          if (column.first > x) break;
          load_some(a.x, a.type, ((b * a.out_height + r) * a.out_width + c) * a.channels + packet * kWidth, dy);
          const float lower = weight * (1 - column.weight), upper = weight * column.weight;
#pragma unroll
          for (int k = 0; k < kWidth; ++k) {
            if (column.first == x) sums[k] += lower * dy[k];
            if (column.second == x && upper != 0) sums[k] += upper * dy[k];
          }
        }
      }
    }
    store_some(a.y, a.type, u * kWidth, sums);
  }
}

}  // namespace

void resize_launch(Device& device, const OpInfo& info, const ResizeArgs& a) {
  if (a.batch == 0 || a.channels == 0 || a.in_height == 0 || a.in_width == 0) return;
  // A gradient of nothing is 0.
  if (a.out_height == 0 || a.out_width == 0) {
    if (a.backward)
      fill_bytes(device, a.y, 0,
                 static_cast<std::size_t>(a.batch * a.in_height * a.in_width * a.channels) * dtype_size(a.type));
    return;
  }
  const ResizeScale rows(a.in_height, a.out_height, a), columns(a.in_width, a.out_width, a);
  if (!a.bilinear && !a.backward) {
    const Nearest source{Pixels(a.batch, a.out_height, a.out_width, 1), rows, columns};
    return copy_rows(device, info, a.x, a.y, source.out.count,
                     a.channels * static_cast<std::int64_t>(dtype_size(a.type)), source);
  }
  const bool packed = a.channels % kPacket == 0 && packets_fit(a.x, a.type) && packets_fit(a.y, a.type);
  const std::int64_t each = packed ? a.channels / kPacket : a.channels;
  const Pixels pixels =
      a.backward ? Pixels(a.batch, a.in_height, a.in_width, each) : Pixels(a.batch, a.out_height, a.out_width, each);
  auto* kernel = a.backward ? packed ? grad_kernel<kPacket> : grad_kernel<1>
                 : packed ? bilinear_kernel<kPacket>
                            : bilinear_kernel<1>;
  launch_kernel(device, info, kernel, {.grid_x = grid_for(device, pixels.count, kThreads, kWaves), .block = kThreads},
                a, pixels, rows, columns);
}

}  // namespace eq
