#include "addon/families.h"
#include "kernels/movement/copy/op.h"

namespace eq::addon {

namespace {

// The ops that are a strided reading of one tensor: JavaScript name, TensorFlow.js name.
#define EQ_VIEWS(X)                 \
  X(transpose, "Transpose")         \
  X(slice, "Slice")                 \
  X(stridedSlice, "StridedSlice")   \
  X(split, "SplitV")                \
  X(unpack, "Unpack")               \
  X(reverse, "Reverse")             \
  X(tile, "Tile")                   \
  X(broadcast, "BroadcastTo")       \
  X(depthToSpace, "DepthToSpace")   \
  X(spaceToBatch, "SpaceToBatchND") \
  X(batchToSpace, "BatchToSpaceND")

// f(x, dims, strides, offset) -> y: y[i] = x[offset + sum i_d strides_d]
void view(Call& c, const char* name) {
  constexpr std::int64_t kLimit = std::int64_t{1} << 52;
  c.give(strided_view(c.device(), name, c.tensor(0, "x"), c.integers(1, "dims"), c.integers(2, "strides"),
                      c.integer(3, "offset", -kLimit, kLimit)));
}

// concat(parts, sizes, outer, inner) -> y [outer, sum of sizes, inner]
void concat(Call& c) {
  c.give(eq::concat(c.device(), c.tensors(0, "parts"), c.integers(1, "sizes"),
                    c.integer(2, "outer", 0, Shape::kMaxElements), c.integer(3, "inner", 0, Shape::kMaxElements)));
}

// pad(x, shape, before, after, value) -> y
void pad(Call& c) {
  c.give(eq::pad(c.device(), c.tensor(0, "x"), c.shape(1, "shape"), c.integers(2, "before"), c.integers(3, "after"),
                 c.number(4, "value")));
}

// diag(x) -> y [n, n]
void diag(Call& c) { c.give(eq::diag(c.device(), c.tensor(0, "x"))); }

#define EQ_VIEW_ENTRY(js, name) {#js, [](Call& c) { view(c, name); }},
const Op kOps[] = {
    EQ_VIEWS(EQ_VIEW_ENTRY){"concat", concat},
    {"pad", pad},
    {"diag", diag},
};

}  // namespace

void register_movement(Napi::Env env, Napi::Object ops) { register_ops(env, ops, kOps); }

}  // namespace eq::addon
