// AttentionGrad, from q, k, v, O, L = logsumexp and dO (Dao, "FlashAttention-2", 2023, section 2.3):
//   P = exp(scale Q K^T - L);  dV = P^T dO;  dP = dO V^T;  dS = scale P (dP - sum_d dO*O);  dQ = dS K;  dK = dS^T Q
//
// Shapes: see attention.h; dQ, dK, dV like q, k, v, stored like them. P is recomputed block by block.
// FLOPs: 10 B H pairs D. Bytes: q, k, v, O, dO, dQ, dK, dV and L once.
#pragma once

#include "kernels/attention/attention.h"

namespace eq {

struct AttentionGradArgs {
  AttentionDims dims;
  const void *q, *k, *v, *out, *dy;
  DType q_type, k_type, v_type, out_type, dy_type;
  const float* logsumexp;
  void *dq, *dk, *dv;
};
void attention_grad_launch(Device& device, const OpInfo& info, const AttentionGradArgs& args);

struct AttentionGradResult {
  Tensor dq, dk, dv;
};

inline AttentionGradResult attention_grad(Device& device, const Tensor& q, const Tensor& k, const Tensor& v,
                                          const Tensor& out, const Tensor& logsumexp, const Tensor& dy,
                                          std::int64_t heads, bool causal, float scale) {
  const AttentionDims d = attention_dims("AttentionGrad", q, k, v, heads, causal, scale);
  for (const Tensor* t : {&out, &dy}) {
    check_type(t->dtype == DType::F32 || t->dtype == DType::BF16, "AttentionGrad: out and dy must be float32, got ",
               dtype_name(t->dtype));
    check_range(t->numel() == q.numel(), "AttentionGrad: out and dy must be like q ", q.shape.str(), ", got ",
                t->shape.str());
  }
  check_type(logsumexp.dtype == DType::F32, "AttentionGrad: logsumexp must be stored as f32, got ",
             dtype_name(logsumexp.dtype));
  check_range(logsumexp.numel() == d.batch * heads * d.lq, "AttentionGrad: logsumexp must be [", d.batch, ",", heads,
              ",", d.lq, "], got ", logsumexp.shape.str());
  AttentionGradResult r{device.empty(q.dtype, q.shape), device.empty(k.dtype, k.shape), device.empty(v.dtype, v.shape)};
  const double flops = 10.0 * static_cast<double>(d.batch * d.channels()) * d.pairs();
  const double bytes = 2.0 * static_cast<double>(q.bytes() + k.bytes() + v.bytes() + out.bytes());
  attention_grad_launch(device, {"AttentionGrad", {q.shape, k.shape}, flops, bytes},
                        {d, q.data(), k.data(), v.data(), out.data(), dy.data(), q.dtype, k.dtype, v.dtype, out.dtype,
                         dy.dtype, logsumexp.data<float>(), r.dq.data(), r.dk.data(), r.dv.data()});
  return r;
}

}  // namespace eq
