#include "addon/families.h"
#include "kernels/image/resize/op.h"
#include "kernels/pool/pool/op.h"

namespace eq::addon {

namespace {

// resize(x, bilinear, backward, alignCorners, halfPixel, [batch, inHeight, inWidth, outHeight, outWidth, channels]) ->
// y
void resize(Call& c) {
  const auto d = c.integers(5, "sizes");
  check_range(d.size() == 6, "resize: sizes must have 6 entries, got ", d.size());
  c.give(eq::resize(c.device(), c.tensor(0, "x"),
                    {nullptr, nullptr, DType::F32, c.boolean(1, "bilinear"), c.boolean(2, "backward"),
                     c.boolean(3, "alignCorners"), c.boolean(4, "halfPixel"), d[0], d[1], d[2], d[3], d[4], d[5]}));
}

// [batch, inHeight, inWidth, channels, outHeight, outWidth, height, width, strideY, strideX, dilationY, dilationX,
//  padTop, padLeft]
PoolWindow window(Call& c, std::size_t i) {
  const auto d = c.integers(i, "window");
  check_range(d.size() == 14, c.op(), ": window must have 14 entries, got ", d.size());
  return {d[0], d[1], d[2], d[3], d[4], d[5], d[6], d[7], d[8], d[9], d[10], d[11], d[12], d[13]};
}

// f(x, window) -> y
template <bool kMax>
void pool(Call& c) {
  c.give(eq::pool(c.device(), kMax, c.tensor(0, "x"), window(c, 1)));
}

// maxPoolGrad(x, dy, window), avgPoolGrad(null, dy, window) -> dx
template <bool kMax>
void pool_grad(Call& c) {
  c.give(eq::pool_grad(c.device(), kMax, kMax ? c.tensor(0, "x") : Tensor{}, c.tensor(1, "dy"), window(c, 2)));
}

const Op kOps[] = {
    {"resize", resize},
    {"maxPool", pool<true>},
    {"avgPool", pool<false>},
    {"maxPoolGrad", pool_grad<true>},
    {"avgPoolGrad", pool_grad<false>},
};

}  // namespace

void register_image(Napi::Env env, Napi::Object ops) { register_ops(env, ops, kOps); }

}  // namespace eq::addon
