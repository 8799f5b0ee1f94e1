#include "addon/families.h"
#include "kernels/diffusion/guided_step/op.h"
#include "kernels/diffusion/mi_squared_norm/op.h"

namespace eq::addon {

namespace {

// miSquaredNorm(cond, uncond, weights) -> mi
void mi_squared_norm(Call& c) {
  c.give(eq::mi_squared_norm(c.device(), c.tensor(0, "epsCond"), c.tensor(1, "epsUncond"), c.tensor(2, "weights")));
}

// miSquaredNormGrad(cond, uncond, weights, dy) -> dcond
void mi_squared_norm_grad(Call& c) {
  c.give(eq::mi_squared_norm_grad(c.device(), c.tensor(0, "epsCond"), c.tensor(1, "epsUncond"), c.tensor(2, "weights"),
                                  c.tensor(3, "dy")));
}

// guidedStep(uncond, cond, latents, noise | null, guidance, miWeight, cx, ce, cn) -> [next, eps, mi]
void guided_step(Call& c) {
  const auto number = [&c](std::size_t i, const char* name) { return static_cast<float>(c.number(i, name)); };
  const Tensor &uncond = c.tensor(0, "epsUncond"), &cond = c.tensor(1, "epsCond"), &latents = c.tensor(2, "latents");
  c.give(eq::guided_step(
      c.device(), uncond, cond, latents, c.optional_tensor(3, "noise"),
      {number(4, "guidance"), number(5, "miWeight"), number(6, "cx"), number(7, "ce"), number(8, "cn")}));
}

const Op kOps[] = {
    {"miSquaredNorm", mi_squared_norm},
    {"miSquaredNormGrad", mi_squared_norm_grad},
    {"guidedStep", guided_step},
};

}  // namespace

void register_diffusion(Napi::Env env, Napi::Object ops) { register_ops(env, ops, kOps); }

}  // namespace eq::addon
