#include "addon/families.h"
#include "kernels/norm/group_norm/op.h"
#include "kernels/norm/layer_norm/op.h"

namespace eq::addon {

namespace {

constexpr std::int64_t kMaxGroups = std::int64_t{1} << 30;

// layerNorm(x, gamma, beta, epsilon) -> [y, mean, rstd]
void layer_norm(Call& c) {
  const LayerNormResult r = eq::layer_norm(c.device(), c.tensor(0, "x"), c.tensor(1, "gamma"), c.tensor(2, "beta"),
                                           static_cast<float>(c.number(3, "epsilon")));
  c.give(std::vector<Tensor>{r.y, r.mean, r.rstd});
}

// layerNormGrad(x, gamma, mean, rstd, dy) -> dx
void layer_norm_grad(Call& c) {
  c.give(eq::layer_norm_grad(c.device(), c.tensor(0, "x"), c.tensor(1, "gamma"), c.tensor(2, "mean"),
                             c.tensor(3, "rstd"), c.tensor(4, "dy")));
}

// layerNormParamGrad(x, mean, rstd, dy) -> [dgamma, dbeta]
void layer_norm_param_grad(Call& c) {
  c.give(eq::layer_norm_param_grad(c.device(), c.tensor(0, "x"), c.tensor(1, "mean"), c.tensor(2, "rstd"),
                                   c.tensor(3, "dy")));
}

// groupNorm(x, gamma, beta, groups, epsilon, silu) -> [y, mean, rstd]
void group_norm(Call& c) {
  const GroupNormResult r = eq::group_norm(c.device(), c.tensor(0, "x"), c.tensor(1, "gamma"), c.tensor(2, "beta"),
                                           c.integer(3, "groups", 1, kMaxGroups),
                                           static_cast<float>(c.number(4, "epsilon")), c.boolean(5, "silu"));
  c.give(std::vector<Tensor>{r.y, r.mean, r.rstd});
}

// groupNormGrad(x, gamma, beta, mean, rstd, dy, groups, silu, parameters) -> [dx] or [dgamma, dbeta]
void group_norm_grad(Call& c) {
  c.give(eq::group_norm_grad(c.device(), c.tensor(0, "x"), c.tensor(1, "gamma"), c.tensor(2, "beta"),
                             c.tensor(3, "mean"), c.tensor(4, "rstd"), c.tensor(5, "dy"),
                             c.integer(6, "groups", 1, kMaxGroups), c.boolean(7, "silu"), c.boolean(8, "parameters")));
}

const Op kOps[] = {
    {"layerNorm", layer_norm}, {"layerNormGrad", layer_norm_grad}, {"layerNormParamGrad", layer_norm_param_grad},
    {"groupNorm", group_norm}, {"groupNormGrad", group_norm_grad},
};

}  // namespace

void register_norm(Napi::Env env, Napi::Object ops) { register_ops(env, ops, kOps); }

}  // namespace eq::addon
