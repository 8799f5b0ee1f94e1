#include "addon/families.h"
#include "kernels/activation/geglu/op.h"
#include "kernels/activation/unary/op.h"

namespace eq::addon {

namespace {

// activation(kind, x, dy | null) -> f(x), or dy f'(x)
void activation(Call& c) {
  const auto kind = c.choice(0, "kind", Activation::QuickGelu);
  const Tensor& x = c.tensor(1, "x");
  c.give(eq::activation(c.device(), kind, x, c.optional_tensor(2, "dy")));
}

// geglu(x, dy | null) -> y, or dx
void geglu(Call& c) {
  const Tensor& x = c.tensor(0, "x");
  c.give(eq::geglu(c.device(), x, c.optional_tensor(1, "dy")));
}

const Op kOps[] = {
    {"activation", activation},
    {"geglu", geglu},
};

}  // namespace

void register_activation(Napi::Env env, Napi::Object ops) { register_ops(env, ops, kOps); }

}  // namespace eq::addon
