// Attention, forward:  S = scale Q K^T,  L = logsumexp_k S,  O = exp(S - L) V   per batch and head.
//
// Shapes: see attention.h; O like q, L [B, H, Lq] in f32. The scores live in one block of queries by one block of
// keys at a time (online softmax: Milakov and Gimelshein, 2018; Dao et al., "FlashAttention", 2022).
// FLOPs: 4 B H pairs D (pairs = Lq Lk, about half when causal). Bytes: q, k, v, O and L once.
#pragma once

#include "kernels/attention/attention.h"

namespace eq {

struct AttentionArgs {
  AttentionDims dims;
  const void *q, *k, *v;
  DType q_type, k_type, v_type, out_type;
  void* out;
  float* logsumexp;
  /// Device-specific workspace of attention_scratch_bytes.
  void* scratch;
};
std::size_t attention_scratch_bytes(const AttentionArgs& args);
void attention_launch(Device& device, const OpInfo& info, const AttentionArgs& args);

struct AttentionResult {
  Tensor out, logsumexp;
};

inline AttentionResult attention(Device& device, const Tensor& q, const Tensor& k, const Tensor& v, std::int64_t heads,
                                 bool causal, float scale) {
  const AttentionDims d = attention_dims("Attention", q, k, v, heads, causal, scale);
  const bool narrow = q.dtype == DType::BF16 || k.dtype == DType::BF16 || v.dtype == DType::BF16;
  AttentionResult r{device.empty(narrow ? DType::BF16 : DType::F32, q.shape),
                    device.empty(DType::F32, {d.batch, heads, d.lq})};
  AttentionArgs args{d,       q.data(), k.data(),    v.data(),     q.dtype,
                     k.dtype, v.dtype,  r.out.dtype, r.out.data(), r.logsumexp.data<float>(),
                     nullptr};
  if (r.out.numel() == 0) return r;
  const Tensor scratch = device.empty(DType::Bool, {static_cast<std::int64_t>(attention_scratch_bytes(args))});
  args.scratch = scratch.data();
  const double flops = 4.0 * static_cast<double>(d.batch * d.channels()) * d.pairs();
  const double bytes = static_cast<double>(q.bytes() + k.bytes() + v.bytes() + r.out.bytes() + r.logsumexp.bytes());
  attention_launch(device, {"Attention", {q.shape, k.shape}, flops, bytes}, args);
  return r;
}

}  // namespace eq
