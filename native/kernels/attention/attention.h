// What the attention kernels share: shapes and their checks.
#pragma once

#include "runtime/device.h"

namespace eq {

/// q [B, Lq, H*D];  k, v [B, Lk, H*D];  head h owns channels h*D .. (h+1)*D-1.
struct AttentionDims {
  std::int64_t batch, lq, lk, heads, depth;
  bool causal;
  float scale;
  std::int64_t channels() const { return heads * depth; }
  /// Keys a query may see; a causal query i sees j <= i + lk - lq, so the last one sees all.
  std::int64_t visible(std::int64_t query) const { return causal ? query + lk - lq + 1 : lk; }
  double pairs() const {
    const auto q = static_cast<double>(lq), k = static_cast<double>(lk);
    return causal ? q * (k - (q - 1) / 2) : q * k;
  }
};

inline AttentionDims attention_dims(const char* op, const Tensor& q, const Tensor& k, const Tensor& v,
                                    std::int64_t heads, bool causal, float scale) {
  for (const Tensor* t : {&q, &k, &v}) {
    check_type(t->dtype == DType::F32 || t->dtype == DType::BF16, op, ": inputs must be float32, got ",
               dtype_name(t->dtype));
    check_type(t->shape.rank() == 3, op, ": inputs must have rank 3, got ", t->shape.str());
  }
  const std::int64_t channels = q.shape[2];
  check_range(heads >= 1 && channels >= 1 && channels % heads == 0, op, ": ", channels, " channels do not split into ",
              heads, " heads");
  check_range(k.shape == v.shape && k.shape[0] == q.shape[0] && k.shape[2] == channels, op, ": q ", q.shape.str(),
              ", k ", k.shape.str(), " and v ", v.shape.str(), " do not fit");
  check_range(k.shape[1] >= 1, op, ": at least one key is needed, got ", k.shape.str());
  check_range(!causal || k.shape[1] >= q.shape[1], op, ": ", q.shape[1], " causal queries need as many keys, got ",
              k.shape[1]);
  return {q.shape[0], q.shape[1], k.shape[1], heads, channels / heads, causal, scale};
}

}  // namespace eq
