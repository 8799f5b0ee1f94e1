// Gradient of a convolution's filter:  df[r, s, i, o] = sum over b, p, q of  x[b, .., .., i] * dy[b, p, q, o]
// (core/geometry.h). x [B, H, W, I], dy [B, P, Q, O] -> df [R, S, I, O], always stored as f32.
//
// The sum over pixels is cut into consecutive parts by the shape alone; parts are added in order, so results do not
// depend on the number of threads. FLOPs 2 B P Q R S I O; bytes: x, dy and df once.
#pragma once

#include "kernels/conv/core/geometry.h"

namespace eq {

struct ConvGradFilterArgs {
  ConvGeometry geometry;
  const void *x, *dy;
  DType x_dtype, dy_dtype;
  float* df;
};
/// Implemented by each device.
void conv2d_grad_filter_launch(Device& device, const OpInfo& info, const ConvGradFilterArgs& args);

/// The output size is dy's.
inline Tensor conv2d_grad_filter(Device& device, const Tensor& x, const Tensor& dy, const Shape& filter,
                                 ConvWindow window) {
  const char* op = "Conv2DGradFilter";
  product_dtype(op, x, dy);
  check_type(dy.shape.rank() == 4, op, ": dy must have rank 4, got ", dy.shape.str());
  window.out_height = dy.shape[1];
  window.out_width = dy.shape[2];
  const ConvGeometry g = conv_geometry(op, x.shape, filter, window);
  check_range(dy.shape == g.output(), op, ": dy must have shape ", g.output().str(), ", got ", dy.shape.str());
  const Tensor df = device.empty(DType::F32, filter);
  const OpInfo info(op, {x.shape, dy.shape}, g.flops(), static_cast<double>(x.bytes() + dy.bytes() + df.bytes()));
  if (df.numel() > 0)
    conv2d_grad_filter_launch(device, info, {g, x.data(), dy.data(), x.dtype, dy.dtype, df.data<float>()});
  return df;
}

}  // namespace eq
