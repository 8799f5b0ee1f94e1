// Geometry of a two-dimensional convolution, NHWC image and HWIO filter, shared by its three kernels:
//
//   y[b, p, q, o] = sum over r, s, i of  x[b, p sh + r dh - top, q sw + s dw - left, i] * f[r, s, i, o]
//
// where x is zero outside its bounds. Bottom and right padding follow from the output's size.
#pragma once

#include "runtime/device.h"

namespace eq {

struct ConvGeometry {
  std::int64_t batch, height, width, channels;  ///< of the image
  std::int64_t out_height, out_width, out_channels;
  std::int64_t filter_height, filter_width;
  std::int64_t stride_height, stride_width, dilation_height, dilation_width;
  std::int64_t top, left;  ///< padding before the first row and column

  Shape image() const { return {batch, height, width, channels}; }
  Shape filter() const { return {filter_height, filter_width, channels, out_channels}; }
  Shape output() const { return {batch, out_height, out_width, out_channels}; }
  double flops() const {
    return 2.0 * static_cast<double>(output().numel()) * static_cast<double>(filter_height * filter_width * channels);
  }
};

/// What a call says beyond the tensors' shapes.
struct ConvWindow {
  std::int64_t stride_height, stride_width, dilation_height, dilation_width, top, left;
  std::int64_t out_height, out_width;  ///< 0 where the output is an input of the kernel
};

/// Checks window and shapes. Any output size is safe, since pixels outside the image read as zeros, as long as the
/// coordinates stay far inside int64.
inline ConvGeometry conv_geometry(const char* op, const Shape& image, const Shape& filter, const ConvWindow& w) {
  check_type(image.rank() == 4, op, ": x must have rank 4, got ", image.str());
  check_type(filter.rank() == 4, op, ": filter must have rank 4, got ", filter.str());
  check_range(image[3] == filter[2], op, ": x has ", image[3], " channels, the filter takes ", filter[2]);
  constexpr std::int64_t kLimit = std::int64_t{1} << 31;
  const auto inside = [&](const char* name, std::int64_t value, std::int64_t low) {
    check_range(value >= low && value < kLimit, op, ": ", name, " must be in ", low, "..", kLimit - 1, ", got ", value);
  };
  inside("strideHeight", w.stride_height, 1);
  inside("strideWidth", w.stride_width, 1);
  inside("dilationHeight", w.dilation_height, 1);
  inside("dilationWidth", w.dilation_width, 1);
  inside("top", w.top, 0);
  inside("left", w.left, 0);
  inside("outHeight", w.out_height, 0);
  inside("outWidth", w.out_width, 0);
  for (int i = 0; i < 4; ++i) {
    inside("a dimension of x", image[i], 0);
    inside("a dimension of the filter", filter[i], 0);
  }
  return {image[0],       image[1],          image[2],         image[3],  w.out_height,
          w.out_width,    filter[3],         filter[0],        filter[1], w.stride_height,
          w.stride_width, w.dilation_height, w.dilation_width, w.top,     w.left};
}

/// The storage of a product of two float tensors.
inline DType product_dtype(const char* op, const Tensor& a, const Tensor& b) {
  check_type(is_float(a.dtype) && is_float(b.dtype), op, ": tensors must be float32, got ", dtype_name(a.dtype),
             " and ", dtype_name(b.dtype));
  return a.dtype == DType::BF16 || b.dtype == DType::BF16 ? DType::BF16 : DType::F32;
}

}  // namespace eq
