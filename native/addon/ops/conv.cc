#include "addon/families.h"
#include "kernels/conv/conv2d/op.h"
#include "kernels/conv/grad_filter/op.h"

namespace eq::addon {

namespace {

/// [strideHeight, strideWidth, dilationHeight, dilationWidth, top, left, outHeight, outWidth]; the gradients take
/// the output's size from dy and ignore the last two.
ConvWindow window_arg(Call& c, std::size_t i) {
  const auto v = c.integers(i, "window");
  check_range(v.size() == 8, c.op(), ": window must have 8 entries, got ", v.size());
  return {v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7]};
}

// conv2d(x, filter, window, bias, activation, leak, prelu, storeF32, addend) -> y
void conv_forward(Call& c) {
  ConvOptions o;
  o.bias = c.optional_tensor(3, "bias");
  o.activation = c.choice(4, "activation", FusedActivation::QuickGelu);
  o.leak = static_cast<float>(c.number(5, "leak"));
  o.prelu = c.optional_tensor(6, "prelu");
  o.addend = c.optional_tensor(8, "addend");
  o.store_f32 = c.boolean(7, "storeF32") || (o.addend && o.addend.dtype == DType::F32);
  c.give(conv2d(c.device(), c.tensor(0, "x"), c.tensor(1, "filter"), window_arg(c, 2), o));
}

// conv2dGradInput(dy, filter, inputShape, window) -> dx
void conv_grad_input(Call& c) {
  c.give(conv2d_grad_input(c.device(), c.tensor(0, "dy"), c.tensor(1, "filter"), c.shape(2, "inputShape"),
                           window_arg(c, 3)));
}

// conv2dGradFilter(x, dy, filterShape, window) -> df
void conv_grad_filter(Call& c) {
  c.give(
      conv2d_grad_filter(c.device(), c.tensor(0, "x"), c.tensor(1, "dy"), c.shape(2, "filterShape"), window_arg(c, 3)));
}

const Op kOps[] = {
    {"conv2d", conv_forward},
    {"conv2dGradInput", conv_grad_input},
    {"conv2dGradFilter", conv_grad_filter},
};

}  // namespace

void register_conv(Napi::Env env, Napi::Object ops) { register_ops(env, ops, kOps); }

}  // namespace eq::addon
