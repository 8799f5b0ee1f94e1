#include "kernels/attention/backward/op.h"
#include "kernels/attention/forward/op.h"

#include "addon/families.h"

namespace eq::addon {

namespace {

// attention(q, k, v, heads, causal, scale) -> [out, logsumexp]
void attention(Call& c) {
  const AttentionResult r =
      eq::attention(c.device(), c.tensor(0, "q"), c.tensor(1, "k"), c.tensor(2, "v"), c.integer(3, "heads", 1, 1 << 20),
                    c.boolean(4, "causal"), static_cast<float>(c.number(5, "scale")));
  c.give(std::vector<Tensor>{r.out, r.logsumexp});
}

// attentionGrad(q, k, v, out, logsumexp, dy, heads, causal, scale) -> [dq, dk, dv]
void attention_grad(Call& c) {
  const AttentionGradResult r =
      eq::attention_grad(c.device(), c.tensor(0, "q"), c.tensor(1, "k"), c.tensor(2, "v"), c.tensor(3, "out"),
                         c.tensor(4, "logsumexp"), c.tensor(5, "dy"), c.integer(6, "heads", 1, 1 << 20),
                         c.boolean(7, "causal"), static_cast<float>(c.number(8, "scale")));
  c.give(std::vector<Tensor>{r.dq, r.dk, r.dv});
}

const Op kOps[] = {
    {"attention", attention},
    {"attentionGrad", attention_grad},
};

}  // namespace

void register_attention(Napi::Env env, Napi::Object ops) { register_ops(env, ops, kOps); }

}  // namespace eq::addon
