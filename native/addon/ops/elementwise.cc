#include "addon/families.h"
#include "kernels/elementwise/binary/op.h"
#include "kernels/elementwise/cast/op.h"
#include "kernels/elementwise/clip/op.h"
#include "kernels/elementwise/fill/op.h"
#include "kernels/elementwise/select/op.h"
#include "kernels/elementwise/unary/op.h"

namespace eq::addon {

namespace {

// f(x, alpha?) -> y
template <UnaryOp op>
void unary(Call& c) {
  const bool has_alpha = !c.raw(1).IsUndefined();
  c.give(eq::unary(c.device(), op, c.tensor(0, "x"), has_alpha ? static_cast<float>(c.number(1, "alpha")) : 0));
}

// f(a, b) -> y
template <BinaryOp op>
void binary(Call& c) {
  c.give(eq::binary(c.device(), op, c.tensor(0, "a"), c.tensor(1, "b")));
}

// clip(x, low, high) -> y
void clip(Call& c) {
  c.give(eq::clip(c.device(), c.tensor(0, "x"), static_cast<float>(c.number(1, "low")),
                  static_cast<float>(c.number(2, "high"))));
}

// select(condition, a, b) -> y
void select(Call& c) { c.give(eq::select(c.device(), c.tensor(0, "condition"), c.tensor(1, "a"), c.tensor(2, "b"))); }

// cast(x, storage) -> y
void cast(Call& c) { c.give(eq::cast(c.device(), c.tensor(0, "x"), c.storage(1, "storage"))); }

// fill(storage, shape, value) -> y
void fill(Call& c) { c.give(eq::fill(c.device(), c.storage(0, "storage"), c.shape(1, "shape"), c.number(2, "value"))); }

// range(storage, count, start, step) -> y
void range(Call& c) {
  const std::int64_t n = c.integer(1, "count", 0, Shape::kMaxElements);
  c.give(eq::range(c.device(), "Range", c.storage(0, "storage"), {n}, c.number(2, "start"), c.number(3, "step")));
}

#define EQ_UNARY_ENTRY(id, name, js, kind) {js, unary<UnaryOp::id>},
#define EQ_BINARY_ENTRY(id, name, js, kind) {js, binary<BinaryOp::id>},
const Op kOps[] = {
    EQ_UNARY_OPS(EQ_UNARY_ENTRY) EQ_BINARY_OPS(EQ_BINARY_ENTRY){"clip", clip},
    {"select", select},
    {"cast", cast},
    {"fill", fill},
    {"range", range},
};

}  // namespace

void register_elementwise(Napi::Env env, Napi::Object ops) { register_ops(env, ops, kOps); }

}  // namespace eq::addon
