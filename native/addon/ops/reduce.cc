#include "addon/families.h"
#include "kernels/reduce/arg/op.h"
#include "kernels/reduce/reduce/op.h"
#include "kernels/reduce/scan/op.h"
#include "kernels/reduce/softmax/op.h"
#include "kernels/reduce/topk/op.h"

namespace eq::addon {

namespace {

std::int64_t size(Call& c, std::size_t i, const char* name) { return c.integer(i, name, 0, Shape::kMaxElements); }

// f(x, outer, reduced, inner) -> y [outer, inner]
template <ReduceOp op>
void reduce(Call& c) {
  c.give(eq::reduce(c.device(), op, c.tensor(0, "x"), size(c, 1, "outer"), size(c, 2, "reduced"), size(c, 3, "inner")));
}

// f(x, outer, reduced, inner) -> indices [outer, inner]
template <bool kLeast>
void arg_reduce(Call& c) {
  c.give(eq::arg_reduce(c.device(), kLeast, c.tensor(0, "x"), size(c, 1, "outer"), size(c, 2, "reduced"),
                        size(c, 3, "inner")));
}

// softmax(x, columns) -> y
void softmax(Call& c) { c.give(eq::softmax(c.device(), c.tensor(0, "x"), size(c, 1, "columns"))); }

// f(x, outer, length, inner, exclusive, reverse) -> y
template <bool kProduct>
void scan(Call& c) {
  c.give(eq::scan(c.device(), kProduct, c.tensor(0, "x"), size(c, 1, "outer"), size(c, 2, "length"),
                  size(c, 3, "inner"), c.boolean(4, "exclusive"), c.boolean(5, "reverse")));
}

// topK(x, columns, k) -> [values, indices]
void topk(Call& c) {
  auto [values, indices] = eq::topk(c.device(), c.tensor(0, "x"), size(c, 1, "columns"), size(c, 2, "k"));
  c.give(std::vector<Tensor>{values, indices});
}

const Op kOps[] = {
    {"sum", reduce<ReduceOp::Sum>},
    {"mean", reduce<ReduceOp::Mean>},
    {"prod", reduce<ReduceOp::Prod>},
    {"max", reduce<ReduceOp::Max>},
    {"min", reduce<ReduceOp::Min>},
    {"all", reduce<ReduceOp::All>},
    {"any", reduce<ReduceOp::Any>},
    {"argMax", arg_reduce<false>},
    {"argMin", arg_reduce<true>},
    {"softmax", softmax},
    {"cumsum", scan<false>},
    {"cumprod", scan<true>},
    {"topK", topk},
};

}  // namespace

void register_reduce(Napi::Env env, Napi::Object ops) { register_ops(env, ops, kOps); }

}  // namespace eq::addon
