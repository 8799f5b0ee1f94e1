// Layer normalisation over the last axis, R rows of C:
//
//   mu, var of a row (biased);  r = (var + eps)^-1/2;  h = (x - mu) r;  y = h gamma + beta
//   g = dy gamma;  dx = r (g - mean(g) - h mean(g h));  dgamma = sum_rows dy h;  dbeta = sum_rows dy
//
// x, y [R, C];  gamma, beta [C] and mu, r [R] in f32;  y and dx stored like x, parameter gradients in f32.
// Statistics in two passes over a row in cache. Bytes: x in, y out (backward: x, dy in, dx out). FLOPs: 8 R C, 11 R C.
#pragma once

#include "kernels/norm/norm.h"

namespace eq {

struct LayerNormArgs {
  const void* x;
  const float *gamma, *beta;
  void* y;
  float *mean, *rstd;
  DType type;
  std::int64_t rows, channels;
  float epsilon;
};
void layer_norm_launch(Device& device, const OpInfo& info, const LayerNormArgs& args);

struct LayerNormGradArgs {
  const void *x, *dy;
  const float *gamma, *mean, *rstd;
  void* dx;
  DType x_type, dy_type;
  std::int64_t rows, channels;
};
void layer_norm_grad_launch(Device& device, const OpInfo& info, const LayerNormGradArgs& args);

struct LayerNormParamGradArgs {
  const void *x, *dy;
  const float *mean, *rstd;
  float *dgamma, *dbeta;
  /// Partial sums [blocks, 2, C].
  float* partial;
  DType x_type, dy_type;
  std::int64_t rows, channels;
};
void layer_norm_param_grad_launch(Device& device, const OpInfo& info, const LayerNormParamGradArgs& args);

struct LayerNormResult {
  Tensor y, mean, rstd;
};

struct RowsAndChannels {
  std::int64_t rows, channels;
};
inline RowsAndChannels layer_norm_dims(const char* op, const Tensor& x) {
  check_float(op, "x", x);
  check_type(x.shape.rank() >= 1, op, ": x must have at least one axis");
  const std::int64_t channels = x.shape.at(-1);
  check_range(channels >= 1, op, ": x must have channels, got ", x.shape.str());
  return {x.numel() / channels, channels};
}

inline LayerNormResult layer_norm(Device& device, const Tensor& x, const Tensor& gamma, const Tensor& beta,
                                  float epsilon) {
  const char* op = "LayerNorm";
  const auto [rows, channels] = layer_norm_dims(op, x);
  check_vector(op, "gamma", gamma, channels);
  check_vector(op, "beta", beta, channels);
  LayerNormResult r{device.empty(x.dtype, x.shape), device.empty(DType::F32, {rows}), device.empty(DType::F32, {rows})};
  layer_norm_launch(device, {op, {x.shape}, 8.0 * static_cast<double>(x.numel()), 2.0 * static_cast<double>(x.bytes())},
                    {x.data(), gamma.data<float>(), beta.data<float>(), r.y.data(), r.mean.data<float>(),
                     r.rstd.data<float>(), x.dtype, rows, channels, epsilon});
  return r;
}

inline Tensor layer_norm_grad(Device& device, const Tensor& x, const Tensor& gamma, const Tensor& mean,
                              const Tensor& rstd, const Tensor& dy) {
  const char* op = "LayerNormGrad";
  const auto [rows, channels] = layer_norm_dims(op, x);
  check_vector(op, "gamma", gamma, channels);
  check_vector(op, "mean", mean, rows);
  check_vector(op, "rstd", rstd, rows);
  check_float(op, "dy", dy);
  check_range(dy.numel() == x.numel(), op, ": dy ", dy.shape.str(), " does not fit x ", x.shape.str());
  Tensor dx = device.empty(x.dtype, x.shape);
  const double bytes = static_cast<double>(2 * x.bytes() + dy.bytes());
  layer_norm_grad_launch(device, {op, {x.shape}, 11.0 * static_cast<double>(x.numel()), bytes},
                         {x.data(), dy.data(), gamma.data<float>(), mean.data<float>(), rstd.data<float>(), dx.data(),
                          x.dtype, dy.dtype, rows, channels});
  return dx;
}

/// [dgamma, dbeta]
inline std::vector<Tensor> layer_norm_param_grad(Device& device, const Tensor& x, const Tensor& mean,
                                                 const Tensor& rstd, const Tensor& dy) {
  const char* op = "LayerNormParamGrad";
  const auto [rows, channels] = layer_norm_dims(op, x);
  check_vector(op, "mean", mean, rows);
  check_vector(op, "rstd", rstd, rows);
  check_float(op, "dy", dy);
  check_range(dy.numel() == x.numel(), op, ": dy ", dy.shape.str(), " does not fit x ", x.shape.str());
  std::vector<Tensor> out{device.empty(DType::F32, {channels}), device.empty(DType::F32, {channels})};
  const std::int64_t per_block = norm_block_rows(channels), blocks = (rows + per_block - 1) / per_block;
  const Tensor partial = device.empty(DType::F32, {blocks, 2, channels});
  const double bytes = static_cast<double>(x.bytes() + dy.bytes());
  layer_norm_param_grad_launch(device, {op, {x.shape}, 5.0 * static_cast<double>(x.numel()), bytes},
                               {x.data(), dy.data(), mean.data<float>(), rstd.data<float>(), out[0].data<float>(),
                                out[1].data<float>(), partial.data<float>(), x.dtype, dy.dtype, rows, channels});
  return out;
}

}  // namespace eq
