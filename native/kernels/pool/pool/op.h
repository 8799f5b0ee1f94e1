// MaxPool, AvgPool over windows of NHWC images, and their gradients.
// Padding never counts: the average divides by the number of elements inside the image. The maximum ignores NaN;
// its gradient goes to the first greatest element of each window. The gradient of the average divides by the whole
// window, as TensorFlow.js defines it: where windows reach into padding it is not the derivative of the average.
// x: f32, bf16, for the maximum also i32; y, dx like x. FLOPs n_out * window, bytes size of x + size of y.
#pragma once

#include "runtime/device.h"

namespace eq {

struct PoolWindow {
  std::int64_t batch, in_height, in_width, channels, out_height, out_width;
  std::int64_t height, width, stride_y, stride_x, dilation_y, dilation_x, pad_top, pad_left;
};
struct PoolArgs {
  const void* x;
  void* y;
  DType type;
  bool max;
  PoolWindow w;
};
struct PoolGradArgs {
  const void* x;  ///< read for the maximum only
  const void* dy;
  void* dx;
  std::int32_t* positions;  ///< for the maximum: scratch of the size of dy
  DType x_type, dy_type;    ///< dx has the type of dy
  bool max;
  PoolWindow w;
};
/// The taps [begin, end) of a window that lie inside the image, when it starts at `origin`. Static: see isa.h.
struct PoolTaps {
  std::int64_t begin, end;
};
static constexpr PoolTaps pool_taps(std::int64_t origin, std::int64_t taps, std::int64_t dilation, std::int64_t size) {
  const std::int64_t begin = origin < 0 ? (-origin + dilation - 1) / dilation : 0;
  std::int64_t end = origin >= size ? 0 : (size - 1 - origin) / dilation + 1;
  end = end < taps ? end : taps;
  return {begin, end > begin ? end : begin};
}

/// Implemented by each device.
void pool_launch(Device& device, const OpInfo& info, const PoolArgs& args);
void pool_grad_launch(Device& device, const OpInfo& info, const PoolGradArgs& args);

namespace detail {

inline void check_window(const char* op, const PoolWindow& w) {
  check_range(w.height > 0 && w.width > 0 && w.stride_y > 0 && w.stride_x > 0 && w.dilation_y > 0 && w.dilation_x > 0,
              op, ": window, strides and dilations must be positive");
  constexpr std::int64_t kLimit = std::int64_t{1} << 30;  // keeps every coordinate inside int64
  for (std::int64_t v : {w.height, w.width, w.stride_y, w.stride_x, w.dilation_y, w.dilation_x, w.pad_top, w.pad_left,
                         w.in_height, w.in_width, w.out_height, w.out_width})
    check_range(v >= -kLimit && v <= kLimit, op, ": ", v, " is out of range");
}
inline Shape pool_in(const PoolWindow& w) { return {w.batch, w.in_height, w.in_width, w.channels}; }
inline Shape pool_out(const PoolWindow& w) { return {w.batch, w.out_height, w.out_width, w.channels}; }

}  // namespace detail

inline Tensor pool(Device& device, bool max, const Tensor& x, const PoolWindow& w) {
  const char* op = max ? "MaxPool" : "AvgPool";
  check_type(is_float(x.dtype) || (max && x.dtype == DType::I32), op, ": x must be float32, got ", dtype_name(x.dtype));
  detail::check_window(op, w);
  const Shape in = detail::pool_in(w), out = detail::pool_out(w);
  check_range(in.numel() == x.numel(), op, ": ", in.str(), " does not have the ", x.numel(), " elements of x");
  Tensor y = device.empty(x.dtype, out);
  pool_launch(device,
              {op,
               {in, out},
               static_cast<double>(out.numel() * w.height * w.width),
               static_cast<double>(x.bytes() + y.bytes())},
              {x.data(), y.data(), x.dtype, max, w});
  return y;
}

/// `x` is needed for the maximum only.
inline Tensor pool_grad(Device& device, bool max, const Tensor& x, const Tensor& dy, const PoolWindow& w) {
  const char* op = max ? "MaxPoolGrad" : "AvgPoolGrad";
  check_type(is_float(dy.dtype), op, ": dy must be float32, got ", dtype_name(dy.dtype));
  detail::check_window(op, w);
  const Shape in = detail::pool_in(w), out = detail::pool_out(w);
  check_range(out.numel() == dy.numel(), op, ": ", out.str(), " does not have the ", dy.numel(), " elements of dy");
  if (max) {
    check_type(is_float(x.dtype), op, ": x must be float32, got ", dtype_name(x.dtype));
    check_range(in.numel() == x.numel() && in.numel() <= INT32_MAX, op, ": ", in.str(), " does not have the ",
                x.numel(), " elements of x, or too many");
  }
  const Tensor positions = max ? device.empty(DType::I32, out) : Tensor{};
  Tensor dx = device.empty(dy.dtype, in);
  pool_grad_launch(device,
                   {op,
                    {in, out},
                    static_cast<double>(out.numel() * w.height * w.width),
                    static_cast<double>(dx.bytes() + dy.bytes())},
                   {max ? x.data() : nullptr, dy.data(), dx.data(), max ? positions.data<std::int32_t>() : nullptr,
                    max ? x.dtype : dy.dtype, dy.dtype, max, w});
  return dx;
}

}  // namespace eq
