#include "addon/families.h"
#include "kernels/elementwise/clip/op.h"

namespace eq::addon {

namespace {

// clip(x, low, high) -> y
void clip(Call& c) {
  c.give(eq::clip(c.device(), c.tensor(0, "x"), static_cast<float>(c.number(1, "low")),
                  static_cast<float>(c.number(2, "high"))));
}

const Op kOps[] = {
    {"clip", clip},
};

}  // namespace

void register_elementwise(Napi::Env env, Napi::Object ops) { register_ops(env, ops, kOps); }

}  // namespace eq::addon
