// ResizeNearestNeighbor, ResizeBilinear and their gradients on NHWC images.
//   y[b, r, c, :] = sum over the taps (i, u) of row r and (j, v) of column c of  u v x[b, i, j, :]
// A nearest row has one tap, a bilinear one two. The gradient is the adjoint: dx[b, i, j, :] += u v dy[b, r, c, :].
// x: f32, bf16, for nearest also i32; y like x. Bytes size of x + size of y: memory-bound.
#pragma once

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

/// The taps along one dimension. They are computed in double precision on both devices, which must agree on where the
/// whole numbers are: no product is fused with the sum that follows.
struct ResizeScale {
  std::int64_t in;
  double ratio;
  bool bilinear, align_corners, half_pixel;

  ResizeScale(std::int64_t in_size, std::int64_t out_size, const ResizeArgs& a)
      : in(in_size), bilinear(a.bilinear), align_corners(a.align_corners), half_pixel(a.half_pixel) {
    ratio = align_corners && out_size > 1 ? static_cast<double>(in_size - 1) / static_cast<double>(out_size - 1)
                                          : static_cast<double>(in_size) / static_cast<double>(out_size);
  }

  constexpr ResizeTap tap(std::int64_t at) const {
    const auto i = static_cast<double>(at);
    if (!bilinear) {
      const double source = half_pixel ? scaled(i + 0.5) : scaled(i);
      const std::int64_t nearest = floor(align_corners ? source + 0.5 : source);
      const std::int64_t kept = nearest < 0 ? 0 : nearest > in - 1 ? in - 1 : nearest;
      return {kept, kept, 0};
    }
    const double source = half_pixel ? scaled(i + 0.5) - 0.5 : scaled(i);
    const double inside = source < 0 ? 0 : source;
    const std::int64_t first = floor(inside), last = in - 1;
    const std::int64_t second = first + (static_cast<double>(first) < inside);
    return {first > last ? last : first, second > last ? last : second,
            static_cast<float>(inside - static_cast<double>(first))};
  }

 private:
  constexpr double scaled(double x) const {
#if defined(__CUDA_ARCH__)
    return __dmul_rn(ratio, x);
#else
    return ratio * x;
#endif
  }
  /// Of a number that fits.
  static constexpr std::int64_t floor(double x) {
    const auto truncated = static_cast<std::int64_t>(x);
    return truncated - (static_cast<double>(truncated) > x);
  }
};

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
