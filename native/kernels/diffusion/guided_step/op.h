// One sampler step in one pass over the latents: guidance, the mutual-information term, and the linear update.
//
//   eps = u + g (c - u);   x' = cx x + ce eps + cn z;   mi_b = w sum_e (c_be - u_be)^2
//
// c, u, x, z [B, E], z optional; x' stored like x, eps like u, mi [B] in f32. mi sums as in mi_squared_norm.
// Bytes: c, u, x (and z) read, x' and eps written. FLOPs: 10 B E, 12 with noise.
#pragma once

#include "kernels/diffusion/mi_squared_norm/op.h"

namespace eq {

struct GuidedStepArgs {
  const void *uncond, *cond, *latents;
  /// Null without noise.
  const void* noise;
  void *next, *eps;
  DType uncond_type, cond_type, latents_type, noise_type;
  std::int64_t samples, per_sample;
  float guidance, mi_weight, cx, ce, cn;
  float* mi;
  /// One sum per block: [samples, blocks].
  double* partial;
  std::int64_t blocks() const { return (per_sample + kSumBlock - 1) / kSumBlock; }
};
void guided_step_launch(Device& device, const OpInfo& info, const GuidedStepArgs& args);

struct GuidedStepNumbers {
  float guidance, mi_weight, cx, ce, cn;
};

/// [next, eps, mi]
inline std::vector<Tensor> guided_step(Device& device, const Tensor& uncond, const Tensor& cond, const Tensor& latents,
                                       const Tensor& noise, const GuidedStepNumbers& k) {
  const char* op = "GuidedStep";
  const bool noisy = static_cast<bool>(noise);
  const auto [samples, per_sample] =
      noisy ? sample_dims(op, {&latents, &uncond, &cond, &noise}) : sample_dims(op, {&latents, &uncond, &cond});
  std::vector<Tensor> out{device.empty(latents.dtype, latents.shape), device.empty(uncond.dtype, latents.shape),
                          device.empty(DType::F32, {samples})};
  GuidedStepArgs args{uncond.data(),  cond.data(),
                      latents.data(), noisy ? noise.data() : nullptr,
                      out[0].data(),  out[1].data(),
                      uncond.dtype,   cond.dtype,
                      latents.dtype,  noisy ? noise.dtype : DType::F32,
                      samples,        per_sample,
                      k.guidance,     k.mi_weight,
                      k.cx,           k.ce,
                      k.cn,           out[2].data<float>(),
                      nullptr};
  const Tensor partial = device.empty(DType::F32, {samples * args.blocks(), 2});
  args.partial = partial.data<double>();
  const double bytes = static_cast<double>(uncond.bytes() + cond.bytes() + latents.bytes() +
                                           (noisy ? noise.bytes() : 0) + out[0].bytes() + out[1].bytes());
  guided_step_launch(device, {op, {latents.shape}, (noisy ? 12.0 : 10.0) * static_cast<double>(latents.numel()), bytes},
                     args);
  return out;
}

}  // namespace eq
