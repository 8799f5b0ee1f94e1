// The summand of point-wise mutual information (MI-TUNE, algorithm 2), per sample b:
//
//   mi_b = w_b sum_e (c_be - u_be)^2                 c, u [B, E];  w, mi [B] in f32
//   dc = 2 dmi_b w_b (c - u)                         stored like c
//
// Sums run over fixed blocks and are added in double, so that they do not depend on the number of threads.
// Bytes: c and u read once (backward: and one written). FLOPs: 3 B E forward, 2 B E backward.
#pragma once

#include "kernels/norm/norm.h"

namespace eq {

/// Elements of a sample that are summed together.
constexpr std::int64_t kSumBlock = std::int64_t{1} << 14;

struct MISquaredNormArgs {
  const void *cond, *uncond;
  DType cond_type, uncond_type;
  std::int64_t samples, per_sample;
  const float* weights;
  float* mi;
  /// One sum per block: [samples, blocks].
  double* partial;
  std::int64_t blocks() const { return (per_sample + kSumBlock - 1) / kSumBlock; }
};
void mi_squared_norm_launch(Device& device, const OpInfo& info, const MISquaredNormArgs& args);

struct MISquaredNormGradArgs {
  const void *cond, *uncond;
  DType cond_type, uncond_type;
  std::int64_t samples, per_sample;
  const float *weights, *dy;
  void* out;
};
void mi_squared_norm_grad_launch(Device& device, const OpInfo& info, const MISquaredNormGradArgs& args);

/// Samples and elements of each; checks that all tensors have the shape of the first.
inline std::pair<std::int64_t, std::int64_t> sample_dims(const char* op, std::initializer_list<const Tensor*> tensors) {
  const Tensor& first = **tensors.begin();
  check_type(first.shape.rank() >= 1, op, ": inputs must have a batch axis");
  for (const Tensor* t : tensors) {
    check_float(op, "input", *t);
    check_range(t->numel() == first.numel() && t->shape.rank() >= 1 && t->shape[0] == first.shape[0], op, ": shapes ",
                first.shape.str(), " and ", t->shape.str(), " differ");
  }
  const std::int64_t samples = first.shape[0];
  return {samples, samples == 0 ? 0 : first.numel() / samples};
}

inline Tensor mi_squared_norm(Device& device, const Tensor& cond, const Tensor& uncond, const Tensor& weights) {
  const char* op = "MISquaredNorm";
  const auto [samples, per_sample] = sample_dims(op, {&cond, &uncond});
  check_vector(op, "weights", weights, samples);
  Tensor mi = device.empty(DType::F32, {samples});
  MISquaredNormArgs args{cond.data(), uncond.data(),         cond.dtype,       uncond.dtype, samples,
                         per_sample,  weights.data<float>(), mi.data<float>(), nullptr};
  const Tensor partial = device.empty(DType::F32, {samples * args.blocks(), 2});
  args.partial = partial.data<double>();
  mi_squared_norm_launch(
      device,
      {op, {cond.shape}, 3.0 * static_cast<double>(cond.numel()), static_cast<double>(cond.bytes() + uncond.bytes())},
      args);
  return mi;
}

inline Tensor mi_squared_norm_grad(Device& device, const Tensor& cond, const Tensor& uncond, const Tensor& weights,
                                   const Tensor& dy) {
  const char* op = "MISquaredNormGrad";
  const auto [samples, per_sample] = sample_dims(op, {&cond, &uncond});
  check_vector(op, "weights", weights, samples);
  check_vector(op, "dy", dy, samples);
  Tensor out = device.empty(cond.dtype, cond.shape);
  mi_squared_norm_grad_launch(device,
                              {op,
                               {cond.shape},
                               2.0 * static_cast<double>(cond.numel()),
                               static_cast<double>(2 * cond.bytes() + uncond.bytes())},
                              {cond.data(), uncond.data(), cond.dtype, uncond.dtype, samples, per_sample,
                               weights.data<float>(), dy.data<float>(), out.data()});
  return out;
}

}  // namespace eq
