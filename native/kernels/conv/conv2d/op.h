// Conv2D:  y = act(x * f + bias + addend)  and its transpose, the gradient of the image:  dx = dy *^T f
// (core/geometry.h).
//
// x [B, H, W, I], f [R, S, I, O], bias [O] -> y [B, P, Q, O]; dy [B, P, Q, O], f -> dx [B, H, W, I].
// Implicit products: patches go from the image into packed panels, never through memory. f32 sums; where an input is
// bf16 the others are rounded to bf16 on processors that multiply bf16. FLOPs 2 B P Q R S I O; bytes: inputs and
// output once.
#pragma once

#include "kernels/conv/core/geometry.h"
#include "kernels/gemm/core/epilogue_args.h"
#include "kernels/gemm/matmul/op.h"

namespace eq {

struct ConvArgs {
  ConvGeometry geometry;
  const void* x;       ///< dy for the transposed convolution
  const void* filter;  ///< null where only its packed form is there (frozen weights on the CPU)
  DType x_dtype, filter_dtype;
  void* y;  ///< dx for the transposed convolution
  DType y_dtype;
  EpilogueArgs epilogue;
};
/// `filter` is passed because a frozen weight keeps its packed form. Implemented by each device.
void conv2d_launch(Device& device, const OpInfo& info, const ConvArgs& args, const Tensor& filter);
void conv2d_grad_input_launch(Device& device, const OpInfo& info, const ConvArgs& args, const Tensor& filter);

struct ConvOptions {
  Tensor bias, prelu;  ///< [O], or one element; may be absent
  FusedActivation activation = FusedActivation::None;
  float leak = 0.2f;
  Tensor addend;  ///< shape of y; may be absent
  bool store_f32 = false;
};

inline OpInfo conv_info(const char* op, const ConvGeometry& g, const Tensor& a, const Tensor& b, const Tensor& out) {
  return {op, {a.shape, b.shape}, g.flops(), static_cast<double>(a.bytes() + b.bytes() + out.bytes())};
}

inline Tensor conv2d(Device& device, const Tensor& x, const Tensor& filter, const ConvWindow& window,
                     const ConvOptions& o) {
  const char* op = "Conv2D";
  const DType product = product_dtype(op, x, filter), dtype = o.store_f32 ? DType::F32 : product;
  const ConvGeometry g = conv_geometry(op, x.shape, filter.shape, window);
  check_type(o.activation != FusedActivation::Prelu || o.prelu, op, ": activation prelu needs prelu slopes");
  ConvArgs args{g, x.data(), filter.peek(), x.dtype, filter.dtype, nullptr, dtype, {}};
  args.epilogue.bias = column_vector(op, "bias", o.bias, g.out_channels);
  args.epilogue.prelu = column_vector(op, "prelu", o.prelu, g.out_channels);
  args.epilogue.activation = o.activation;
  args.epilogue.leak = o.leak;
  add_addend(op, o.addend, g.output(), args.epilogue);
  const Tensor y = device.empty(dtype, g.output());
  args.y = y.data();
  if (y.numel() > 0) conv2d_launch(device, conv_info(op, g, x, filter, y), args, filter);
  return y;
}

/// The output size is dy's; `window` gives the rest and `image` the result's shape.
inline Tensor conv2d_grad_input(Device& device, const Tensor& dy, const Tensor& filter, const Shape& image,
                                ConvWindow window) {
  const char* op = "Conv2DGradInput";
  const DType dtype = product_dtype(op, dy, filter);
  check_type(dy.shape.rank() == 4, op, ": dy must have rank 4, got ", dy.shape.str());
  window.out_height = dy.shape[1];
  window.out_width = dy.shape[2];
  const ConvGeometry g = conv_geometry(op, image, filter.shape, window);
  check_range(dy.shape == g.output(), op, ": dy must have shape ", g.output().str(), ", got ", dy.shape.str());
  const Tensor dx = device.empty(dtype, image);
  const ConvArgs args{g, dy.data(), filter.peek(), dy.dtype, filter.dtype, dx.data(), dtype, {}};
  if (dx.numel() > 0) conv2d_grad_input_launch(device, conv_info(op, g, dy, filter, dx), args, filter);
  return dx;
}

}  // namespace eq
