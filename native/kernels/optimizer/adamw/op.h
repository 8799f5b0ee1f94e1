// AdamW for many tensors in one launch, with the global gradient norm and clipping (torch.optim.AdamW's order of
// operations; see packages/backend/src/fused/adam-w.ts for the formulas). Updates p, m and v in place.
//
// p, m, v in f32, g in f32 or bf16; all tensors of a parameter have the same size. The norm is summed over fixed
// blocks in double. Bytes: g twice, p, m, v read and written: 32 per element. FLOPs: 16 per element.
#pragma once

#include <vector>

#include "kernels/norm/norm.h"

namespace eq {

struct AdamWTensor {
  float *p, *m, *v;
  const void* g;
  DType g_type;
  std::int64_t n;
};

struct AdamWNumbers {
  double step, learning_rate, beta1, beta2, epsilon, weight_decay;
  /// 0 for no clipping.
  double max_norm;
  double gradient_scale;
};

struct AdamWArgs {
  std::vector<AdamWTensor> tensors;
  AdamWNumbers numbers;
  float* norm;
};
void adamw_launch(Device& device, const OpInfo& info, AdamWArgs args);

/// `tensors` holds p, g, m, v of each parameter in turn. Returns the norm of the scaled gradients before clipping.
inline Tensor adamw(Device& device, const std::vector<Tensor>& tensors, const AdamWNumbers& k) {
  const char* op = "AdamW";
  check_range(!tensors.empty() && tensors.size() % 4 == 0, op, ": expected p, g, m and v of each parameter, got ",
              tensors.size(), " tensors");
  check_range(k.step >= 1 && k.beta1 >= 0 && k.beta1 < 1 && k.beta2 >= 0 && k.beta2 < 1, op,
              ": step must be at least 1 and both betas in [0, 1)");
  AdamWArgs args{{}, k, nullptr};
  double elements = 0;
  for (std::size_t i = 0; i < tensors.size(); i += 4) {
    const Tensor &p = tensors[i], &g = tensors[i + 1], &m = tensors[i + 2], &v = tensors[i + 3];
    check_type(!p.buffer->frozen, op, ": a frozen weight cannot be trained; copy it into a variable first");
    check_vector(op, "parameter", p, p.numel());
    check_vector(op, "m", m, p.numel());
    check_vector(op, "v", v, p.numel());
    check_float(op, "gradient", g);
    check_range(g.numel() == p.numel(), op, ": gradient ", g.shape.str(), " does not fit parameter ", p.shape.str());
    args.tensors.push_back({p.data<float>(), m.data<float>(), v.data<float>(), g.data(), g.dtype, p.numel()});
    elements += static_cast<double>(p.numel());
  }
  Tensor norm = device.empty(DType::F32, {});
  args.norm = norm.data<float>();
  adamw_launch(device, {op, {tensors[0].shape}, 16 * elements, 32 * elements}, std::move(args));
  return norm;
}

}  // namespace eq
