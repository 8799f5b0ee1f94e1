#include "addon/families.h"
#include "kernels/optimizer/adamw/op.h"
#include "kernels/random/philox/op.h"

namespace eq::addon {

namespace {

// adamW([p, g, m, v, ...], step, learningRate, beta1, beta2, epsilon, weightDecay, maxNorm, gradientScale) -> norm
void adamw(Call& c) {
  c.give(eq::adamw(
      c.device(), c.tensors(0, "tensors"),
      {c.number(1, "step"), c.number(2, "learningRate"), c.number(3, "beta1"), c.number(4, "beta2"),
       c.number(5, "epsilon"), c.number(6, "weightDecay"), c.number(7, "maxNorm"), c.number(8, "gradientScale")}));
}

// philox(shape, seedLow, seedHigh, streamLow, streamHigh, offset, normal) -> numbers
void philox(Call& c) {
  const auto word = [&c](std::size_t i, const char* name) {
    return static_cast<std::uint32_t>(c.integer(i, name, 0, 0xffffffff));
  };
  const std::uint32_t seed[2] = {word(1, "seed"), word(2, "seed")};
  const std::uint32_t stream[2] = {word(3, "stream"), word(4, "stream")};
  c.give(eq::philox(c.device(), c.shape(0, "shape"), seed, stream, c.integer(5, "offset", 0, 1LL << 53),
                    c.boolean(6, "normal")));
}

const Op kOps[] = {
    {"adamW", adamw},
    {"philox", philox},
};

}  // namespace

void register_training(Napi::Env env, Napi::Object ops) { register_ops(env, ops, kOps); }

}  // namespace eq::addon
