// ResizeNearestNeighbor, ResizeBilinear and their gradients on NHWC images.
//   y[b, r, c, :] = sum over the taps (i, u) of row r and (j, v) of column c of  u v x[b, i, j, :]
// A nearest row has one tap, a bilinear one two. The gradient is the adjoint: dx[b, i, j, :] += u v dy[b, r, c, :].
// x: f32, bf16, for nearest also i32; y like x. Bytes size of x + size of y: memory-bound.
#pragma once

#include <cmath>

#include "runtime/device.h"

namespace eq {

struct ResizeArgs {
  const void* x;  ///< forward: the image; backward: dy
  void* y;        ///< forward: the resized image; backward: dx
  DType type;
  bool bilinear, backward, align_corners, half_pixel;
  /// The image (in) and its resized form (out), in both directions.
  std::int64_t batch, in_height, in_width, out_height, out_width, channels;
};
/// Implemented by each device.
void resize_launch(Device& device, const OpInfo& info, const ResizeArgs& args);

/// Where one output row (or column) reads: (1 - weight) x[first] + weight x[second].
struct ResizeTap {
  std::int64_t first, second;
  float weight;
};
inline ResizeTap resize_tap(std::int64_t at, std::int64_t in, std::int64_t out, bool bilinear, bool align_corners,
                            bool half_pixel) {
  const bool corners = align_corners && out > 1;
  const double ratio = corners ? static_cast<double>(in - 1) / static_cast<double>(out - 1)
                               : static_cast<double>(in) / static_cast<double>(out);
  const double i = static_cast<double>(at);
  if (!bilinear) {
    const double source = half_pixel ? ratio * (i + 0.5) : ratio * i;
    const auto nearest = static_cast<std::int64_t>(align_corners ? std::floor(source + 0.5) : std::floor(source));
    const std::int64_t kept = nearest < 0 ? 0 : nearest > in - 1 ? in - 1 : nearest;
    return {kept, kept, 0};
  }
  const double source = half_pixel ? ratio * (i + 0.5) - 0.5 : ratio * i;
  const double floor = source < 0 ? 0 : std::floor(source), ceil = std::ceil(source);
  const auto first = static_cast<std::int64_t>(floor);
  const std::int64_t second = ceil < 0                             ? 0
                              : ceil > static_cast<double>(in - 1) ? in - 1
                                                                   : static_cast<std::int64_t>(ceil);
  return {first > in - 1 ? in - 1 : first, second, static_cast<float>(source < 0 ? 0 : source - floor)};
}

namespace detail {

inline Tensor resize(Device& device, const char* op, const Tensor& x, ResizeArgs args) {
  const Shape in{args.batch, args.in_height, args.in_width, args.channels};
  const Shape out{args.batch, args.out_height, args.out_width, args.channels};
  const Shape& from = args.backward ? out : in;
  check_type(is_float(x.dtype) || (x.dtype == DType::I32 && !args.bilinear && !args.backward), op,
             ": images must be float32, got ", dtype_name(x.dtype));
  check_range(from.numel() == x.numel(), op, ": ", from.str(), " does not have the ", x.numel(), " elements given");
  check_range(in.numel() > 0 || out.numel() == 0, op, ": cannot resize an empty image ", in.str(), " to ", out.str());
  Tensor y = device.empty(x.dtype, args.backward ? in : out);
  args.x = x.data();
  args.y = y.data();
  args.type = x.dtype;
  resize_launch(device,
                {op,
                 {from, args.backward ? in : out},
                 (args.bilinear ? 8 : 0) * static_cast<double>(out.numel()),
                 static_cast<double>(x.bytes() + y.bytes())},
                args);
  return y;
}

}  // namespace detail

inline Tensor resize(Device& device, const Tensor& x, const ResizeArgs& args) {
  const char* op = args.bilinear   ? args.backward ? "ResizeBilinearGrad" : "ResizeBilinear"
                   : args.backward ? "ResizeNearestNeighborGrad"
                                   : "ResizeNearestNeighbor";
  return detail::resize(device, op, x, args);
}

}  // namespace eq
