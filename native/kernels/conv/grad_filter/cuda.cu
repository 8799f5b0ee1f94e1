// Launcher of the filter gradient: df [(r, s, i), o] = sum over pixels of patch[pixel, (r, s, i)] dy[pixel, o], a
// product by the tile kernels whose k runs over pixels, in parts where there are few tiles. Images with channels that
// are no multiple of eight are copied with zeros; the rows of df that belong to them are left out by strip_kernel (one
// thread per element, 256 a block).
#include "kernels/conv/grad_filter/op.h"

#include "kernels/conv/core/operands.h"
#include "kernels/conv/core/patches.cuh"
#include "kernels/gemm/core/tile_launch.cuh"

namespace eq {

namespace tile {
extern template void launch_problem(Device&, const OpInfo&, Problem<Patches<bf16, false>, Dense<bf16, false>>);
extern template void launch_problem(Device&, const OpInfo&, Problem<Patches<float, false>, Dense<float, false>>);
}  // namespace tile

namespace {

constexpr int kThreads = 256;

/// to[tap, i, o] = from[tap, i, o], where `from` has more channels i.
__global__ void __launch_bounds__(kThreads)
    strip_kernel(const float* from, float* to, std::int64_t size, std::int64_t kept, std::int64_t all) {
  for (std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; i < size;
       i += std::int64_t{gridDim.x} * kThreads) {
    const std::int64_t tap = i / kept;
    to[i] = from[tap * all + (i - tap * kept)];
  }
}

template <class T>
void grad_filter(Device& device, const OpInfo& info, const TapGrid& grid, const tile::Ready& image,
                 const tile::Ready& dy, std::int64_t out_channels, float* df) {
  tile::Problem<tile::Patches<T, false>, tile::Dense<T, false>> p;
  p.a = tile::make_patches<T, false>(info.name, grid, image.data, image.channels);
  p.k = p.a.pixels;
  p.b = {static_cast<const T*>(dy.data), p.k, out_channels, dy.channels};
  p.out.c = df;
  p.out.m = p.a.depth;
  p.out.n = out_channels;
  p.out.rows.pitch = out_channels;
  p.out.vectors = tile::rows_fit(p.out, out_channels);
  launch_problem(device, info, p);
}

}  // namespace

void conv2d_grad_filter_launch(Device& device, const OpInfo& info, const ConvGradFilterArgs& args) {
  const ConvGeometry& g = args.geometry;
  const DType type = tile::multiply_type(args.x_dtype, args.dy_dtype);
  const tile::Ready image =
      tile::ready_pixels(device, info, args.x, args.x_dtype, type, g.batch * g.height * g.width, g.channels);
  const tile::Ready dy = tile::ready_pixels(device, info, args.dy, args.dy_dtype, type,
                                            g.batch * g.out_height * g.out_width, g.out_channels);
  const TapGrid grid{g.batch,
                     g.height,
                     g.width,
                     g.channels,
                     forward_axis(g.out_height, g.filter_height, g.stride_height, g.dilation_height, g.top),
                     forward_axis(g.out_width, g.filter_width, g.stride_width, g.dilation_width, g.left)};
  const std::int64_t taps = g.filter_height * g.filter_width;
  Tensor wide;
  float* df = args.df;
  if (image.channels != g.channels) {
    wide = device.empty(DType::F32, {taps, image.channels, g.out_channels});
    df = wide.data<float>();
  }
  type == DType::BF16 ? grad_filter<bf16>(device, info, grid, image, dy, g.out_channels, df)
                      : grad_filter<float>(device, info, grid, image, dy, g.out_channels, df);
  if (!wide) return;
  const std::int64_t size = taps * g.channels * g.out_channels;
  launch_kernel(device, info, strip_kernel, Launch{grid_for(device, size, kThreads), 1, 1, kThreads}, df, args.df, size,
                g.channels * g.out_channels, image.channels * g.out_channels);
}

}  // namespace eq
