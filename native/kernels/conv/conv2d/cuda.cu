// Launchers of the convolution and of its image gradient: implicit products by the tile kernels, whose loaders find the
// patches in the image (kernels/conv/core/patches.cuh). Images whose channels are no multiple of eight (latents,
// colours) are copied with zeros first; a frozen filter keeps its copy. Launch: see kernels/gemm/core/tile_mma.cuh,
// tile_ffma.cuh.
#include "kernels/conv/conv2d/op.h"

#include "kernels/conv/core/dnn.h"
#include "kernels/conv/core/operands.h"
#include "kernels/conv/core/patches.cuh"
#include "kernels/gemm/core/choice.h"
#include "kernels/gemm/core/tile_launch.cuh"
#include "kernels/gemm/core/wgmma.h"

#include <functional>

namespace eq {

namespace tile {
extern template void launch_problem(Device&, const OpInfo&, Problem<Patches<bf16, true>, Dense<bf16, false>>);
extern template void launch_problem(Device&, const OpInfo&, Problem<Patches<float, true>, Dense<float, false>>);
extern template void launch_problem(Device&, const OpInfo&, Problem<Patches<bf16, true>, TapRows<bf16>>);
extern template void launch_problem(Device&, const OpInfo&, Problem<Patches<float, true>, TapRows<float>>);
}  // namespace tile

namespace {

tile::Output output_of(const ConvArgs& args, std::int64_t rows, std::int64_t columns) {
  tile::Output out;
  out.c = args.y;
  out.type = args.y_dtype;
  out.m = rows;
  out.n = columns;
  out.rows.pitch = columns;
  out.epilogue = args.epilogue;
  out.vectors = tile::rows_fit(out, columns);
  return out;
}

/// The filter with `channels` input channels (zeros where it has fewer), its rows fit for reading.
tile::Ready ready_filter(Device& device, const OpInfo& info, const ConvArgs& args, const Tensor& filter, DType type,
                         std::int64_t channels) {
  const ConvGeometry& g = args.geometry;
  if (channels == g.channels && tile::lines_fit(args.filter, args.filter_dtype, type, g.out_channels))
    return {args.filter, g.out_channels, {}};
  const std::int64_t padded = tile::padded_length(g.out_channels);
  Tensor copy = tile::pack_weight(device, info,
                                  {args.filter,
                                   args.filter_dtype,
                                   {g.filter_height * g.filter_width, channels, 1},
                                   {g.channels * g.out_channels, g.out_channels, 0},
                                   g.channels,
                                   g.out_channels,
                                   padded},
                                  type, filter, 'c');
  return {copy.data(), padded, copy};
}

/// Runs the fastest of the ways that can: the tile kernel, the sm_90a kernel on operands that are `readable` as they
/// lie, and cuDNN (`library`; null where it computes another part of the op than the kernels).
template <class BuiltIn>
void run(Device& device, const OpInfo& info, const ConvArgs& args, const char* kind, bool readable,
         const tile::ImageProduct& product, const std::function<bool()>& library, BuiltIn built_in) {
  const ConvGeometry& g = args.geometry;
  const bool wgmma = args.y_dtype == DType::BF16 && tile::wgmma_usable(device),
             dnn = library && tile::dnn_usable(device);
  if (!readable || !tile::worth_choosing(g.flops()) || !(wgmma || dnn)) return built_in();
  const std::string shape = concat(
      "bf16 convolution", kind, " ", g.image().str(), " * ", g.filter().str(), " / ", g.stride_height, ",",
      g.stride_width, args.epilogue.trivial() ? "" : " with epilogue", args.y_dtype == DType::F32 ? " to f32" : "");
  std::vector<tile::Way> ways{{"built-in", [&] { return built_in(), true; }}};
  if (wgmma)
    for (const tile::WgmmaTile& tile : tile::kWgmmaTiles)
      ways.push_back({tile.name, [&] { return tile::wgmma_image(device, info, product, tile); }});
  if (dnn) ways.push_back({"cuDNN", library});
  tile::run_fastest(device, info, shape, ways);
}

template <class T>
void forward(Device& device, const OpInfo& info, const ConvArgs& args, const TapGrid& grid, const tile::Ready& image,
             const tile::Ready& filter, const Tensor& weight) {
  const ConvGeometry& g = args.geometry;
  tile::Problem<tile::Patches<T, true>, tile::Dense<T, false>> p;
  p.a = tile::make_patches<T, true>(info.name, grid, image.data, image.channels);
  p.k = p.a.depth;
  p.b = {static_cast<const T*>(filter.data), p.k, g.out_channels, filter.channels};
  p.out = output_of(args, grid.rows(), g.out_channels);
  const bool readable = image.channels == g.channels && filter.channels == g.out_channels;
  const tile::ImageProduct product{
      grid, image.data, filter.data, false, g.out_channels, g.filter_width, g.filter_height * g.filter_width, p.out};
  const auto library = [&] { return tile::dnn_convolution(device, info, args, weight, false); };
  run(device, info, args, "", readable, product, library, [&] { launch_problem(device, info, p); });
}

template <class T>
void grad_input(Device& device, const OpInfo& info, const ConvArgs& args, const TapGrid& grid, const tile::Ready& dy,
                const tile::Ready& filter, const Tensor& weight) {
  const ConvGeometry& g = args.geometry;
  tile::Problem<tile::Patches<T, true>, tile::TapRows<T>> p;
  p.a = tile::make_patches<T, true>(info.name, grid, dy.data, dy.channels);
  p.k = p.a.depth;
  p.b = tile::make_tap_rows<T>(grid, filter.data, g.filter_width, g.channels, dy.channels);
  p.out = output_of(args, grid.rows(), g.channels);
  tile::RowMap& rows = p.out.rows;
  rows.spread = grid.y.out_step != 1 || grid.x.out_step != 1;
  rows.width = Divisor(grid.x.size);
  rows.height = Divisor(grid.y.size);
  rows.step_y = grid.y.out_step;
  rows.step_x = grid.x.out_step;
  rows.first_y = grid.y.out_first;
  rows.first_x = grid.x.out_first;
  rows.out_height = g.height;
  rows.out_width = g.width;
  const bool readable = dy.channels == g.out_channels;
  const tile::ImageProduct product{
      grid, dy.data, filter.data, true, g.channels, g.filter_width, g.filter_height * g.filter_width, p.out};
  // cuDNN computes all of dx, one product only the pixels of one residue modulo the stride.
  std::function<bool()> library;
  if (!rows.spread) library = [&] { return tile::dnn_convolution(device, info, args, weight, true); };
  run(device, info, args, " transposed", readable, product, library, [&] { launch_problem(device, info, p); });
}

/// A one-pixel window: y = x f, dx = dy f^T.
void plain_product(Device& device, const OpInfo& info, const ConvArgs& args, DType type, const tile::Ready& image,
                   const tile::Ready& filter, bool transposed) {
  const ConvGeometry& g = args.geometry;
  tile::Gemm product{};
  product.type = type;
  product.m = g.batch * g.height * g.width;
  product.n = transposed ? g.channels : g.out_channels;
  product.k = transposed ? g.out_channels : g.channels;
  product.a = {image.data, true, image.channels};
  product.b = {filter.data, transposed, filter.channels};
  product.out = output_of(args, product.m, product.n);
  tile::gemm(device, info, product);
}

}  // namespace

void conv2d_launch(Device& device, const OpInfo& info, const ConvArgs& args, const Tensor& filter) {
  const ConvGeometry& g = args.geometry;
  const DType type = tile::multiply_type(args.x_dtype, args.filter_dtype);
  const tile::Ready image =
      tile::ready_pixels(device, info, args.x, args.x_dtype, type, g.batch * g.height * g.width, g.channels);
  const bool plain = tile::plain_product(g);
  const tile::Ready weight = ready_filter(device, info, args, filter, type, plain ? g.channels : image.channels);
  if (plain) return plain_product(device, info, args, type, image, weight, false);
  const TapGrid grid{g.batch,
                     g.height,
                     g.width,
                     g.channels,
                     forward_axis(g.out_height, g.filter_height, g.stride_height, g.dilation_height, g.top),
                     forward_axis(g.out_width, g.filter_width, g.stride_width, g.dilation_width, g.left)};
  type == DType::BF16 ? forward<bf16>(device, info, args, grid, image, weight, filter)
                      : forward<float>(device, info, args, grid, image, weight, filter);
}

void conv2d_grad_input_launch(Device& device, const OpInfo& info, const ConvArgs& args, const Tensor& filter) {
  const ConvGeometry& g = args.geometry;
  const DType type = tile::multiply_type(args.x_dtype, args.filter_dtype);
  const tile::Ready dy = tile::ready_pixels(device, info, args.x, args.x_dtype, type,
                                            g.batch * g.out_height * g.out_width, g.out_channels);
  const tile::Ready weight = ready_filter(device, info, args, filter, type, g.channels);
  if (tile::plain_product(g)) return plain_product(device, info, args, type, dy, weight, true);
  if (dy.channels != weight.channels)
    throw RangeError(concat(info.name, ": internal: operands of ", dy.channels, " and ", weight.channels, " channels"));
  for (std::int64_t py = 0; py < std::min(g.stride_height, g.height); ++py) {
    for (std::int64_t px = 0; px < std::min(g.stride_width, g.width); ++px) {
      const TapGrid grid{g.batch,
                         g.out_height,
                         g.out_width,
                         g.out_channels,
                         transposed_axis(g.height, g.filter_height, g.stride_height, g.dilation_height, g.top, py),
                         transposed_axis(g.width, g.filter_width, g.stride_width, g.dilation_width, g.left, px)};
      if (grid.rows() == 0) continue;
      type == DType::BF16 ? grad_input<bf16>(device, info, args, grid, dy, weight, filter)
                          : grad_input<float>(device, info, args, grid, dy, weight, filter);
    }
  }
}

}  // namespace eq
