#include "addon/families.h"
#include "kernels/loss/direction_alignment/op.h"

namespace eq::addon {

namespace {

// directionAlignment(text, original, means, before, categories, after, consistency, present)
//   -> [loss, dtext, parts, cosines]
void direction_alignment(Call& c) {
  constexpr std::int64_t kMost = Shape::kMaxElements;
  c.give(eq::direction_alignment(c.device(), c.tensor(0, "text"), c.tensor(1, "original"), c.tensor(2, "imageMeans"),
                                 c.integer(3, "before", 1, kMost), c.integer(4, "categories", 2, kMost),
                                 c.integer(5, "after", 1, kMost), static_cast<float>(c.number(6, "consistency")),
                                 c.integers(7, "present")));
}

const Op kOps[] = {
    {"directionAlignment", direction_alignment},
};

}  // namespace

void register_loss(Napi::Env env, Napi::Object ops) { register_ops(env, ops, kOps); }

}  // namespace eq::addon
