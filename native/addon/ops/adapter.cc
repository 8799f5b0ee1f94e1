#include "addon/families.h"
#include "kernels/adapter/dora/op.h"

namespace eq::addon {

namespace {

float real(Call& c, std::size_t i, const char* name) { return static_cast<float>(c.number(i, name)); }

// doraNorm(weight, loraA, loraB, scaling) -> norm
void dora_norm(Call& c) {
  c.give(eq::dora_norm(c.device(), c.tensor(0, "weight"), c.tensor(1, "loraA"), c.tensor(2, "loraB"),
                       c.number(3, "scaling")));
}

// doraLinear(x, weight, loraA, loraB, magnitude | null, norm | null, bias | null, scaling) -> [y, u] or [y, u, scale]
void dora_linear(Call& c) {
  const Tensor magnitude = c.optional_tensor(4, "magnitude"), norm = c.optional_tensor(5, "norm");
  const Tensor bias = c.optional_tensor(6, "bias");
  const std::vector<Tensor> out =
      eq::dora_linear(c.device(), c.tensor(0, "x"), c.tensor(1, "weight"), c.tensor(2, "loraA"), c.tensor(3, "loraB"),
                      magnitude, norm, bias, real(c, 7, "scaling"));
  c.give(out);
}

// doraGradHidden(dy, loraB, scale | null, scaling) -> h
void dora_grad_hidden(Call& c) {
  c.give(eq::dora_grad_hidden(c.device(), c.tensor(0, "dy"), c.tensor(1, "loraB"), c.optional_tensor(2, "scale"),
                              real(c, 3, "scaling")));
}

// doraGradInput(dy, h, weight, loraA, scale | null) -> dx
void dora_grad_input(Call& c) {
  c.give(eq::dora_grad_input(c.device(), c.tensor(0, "dy"), c.tensor(1, "h"), c.tensor(2, "weight"),
                             c.tensor(3, "loraA"), c.optional_tensor(4, "scale")));
}

// doraGradLora(x, dy, u, h, scale | null, scaling) -> [dA, dB]
void dora_grad_lora(Call& c) {
  c.give(eq::dora_grad_lora(c.device(), c.tensor(0, "x"), c.tensor(1, "dy"), c.tensor(2, "u"), c.tensor(3, "h"),
                            c.optional_tensor(4, "scale"), real(c, 5, "scaling")));
}

// doraGradMagnitude(x, dy, y, u, weight, loraB, scale, norm, bias | null, scaling) -> dm
void dora_grad_magnitude(Call& c) {
  const DoraMagnitudeInputs inputs{c.tensor(0, "x"),     c.tensor(1, "dy"),     c.tensor(2, "y"),
                                   c.tensor(3, "u"),     c.tensor(4, "weight"), c.tensor(5, "loraB"),
                                   c.tensor(6, "scale"), c.tensor(7, "norm"),   c.optional_tensor(8, "bias")};
  c.give(eq::dora_grad_magnitude(c.device(), inputs, real(c, 9, "scaling")));
}

const Op kOps[] = {
    {"doraNorm", dora_norm},
    {"doraLinear", dora_linear},
    {"doraGradHidden", dora_grad_hidden},
    {"doraGradInput", dora_grad_input},
    {"doraGradLora", dora_grad_lora},
    {"doraGradMagnitude", dora_grad_magnitude},
};

}  // namespace

void register_adapter(Napi::Env env, Napi::Object ops) { register_ops(env, ops, kOps); }

}  // namespace eq::addon
