#include "addon/families.h"
#include "kernels/index/bincount/op.h"
#include "kernels/index/gather/op.h"
#include "kernels/index/gather_nd/op.h"
#include "kernels/index/multinomial/op.h"
#include "kernels/index/one_hot/op.h"
#include "kernels/index/scatter_nd/op.h"
#include "kernels/index/segment_sum/op.h"

namespace eq::addon {

namespace {

std::int64_t size(Call& c, std::size_t i, const char* name) { return c.integer(i, name, 0, Shape::kMaxElements); }

// gather(x, indices, batch, outer, dim, inner) -> y [batch, outer, indices a batch, inner]
void gather(Call& c) {
  c.give(eq::gather(c.device(), c.tensor(0, "x"), c.tensor(1, "indices"), size(c, 2, "batch"), size(c, 3, "outer"),
                    size(c, 4, "dim"), size(c, 5, "inner")));
}

// gatherNd(x, indices, dims, slice, count) -> y [count, slice]
void gather_nd(Call& c) {
  c.give(eq::gather_nd(c.device(), c.tensor(0, "x"), c.tensor(1, "indices"), c.integers(2, "dims"), size(c, 3, "slice"),
                       size(c, 4, "count")));
}

// scatterNd(base | null, indices, updates, dims, slice, count) -> y [dims..., slice]
void scatter_nd(Call& c) {
  c.give(eq::scatter_nd(c.device(), c.optional_tensor(0, "base"), c.tensor(1, "indices"), c.tensor(2, "updates"),
                        c.integers(3, "dims"), size(c, 4, "slice"), size(c, 5, "count")));
}

// segmentSum(x, ids, inner, segments) -> y [segments, inner]
void segment_sum(Call& c) {
  c.give(
      eq::segment_sum(c.device(), c.tensor(0, "x"), c.tensor(1, "ids"), size(c, 2, "inner"), size(c, 3, "segments")));
}

// oneHot(indices, storage, depth, on, off) -> y [count, depth]
void one_hot(Call& c) {
  c.give(eq::one_hot(c.device(), c.tensor(0, "indices"), c.storage(1, "storage"), size(c, 2, "depth"),
                     c.number(3, "on"), c.number(4, "off")));
}

// bincount(x, weights | null, rows, bins, binary) -> y [rows, bins]
void bincount(Call& c) {
  c.give(eq::bincount(c.device(), c.tensor(0, "x"), c.optional_tensor(1, "weights"), size(c, 2, "rows"),
                      size(c, 3, "bins"), c.boolean(4, "binary")));
}

// multinomial(probabilities, uniforms, rows) -> y [rows, samples]
void multinomial(Call& c) {
  c.give(eq::multinomial(c.device(), c.tensor(0, "probabilities"), c.tensor(1, "uniforms"), size(c, 2, "rows")));
}

const Op kOps[] = {
    {"gather", gather},  {"gatherNd", gather_nd}, {"scatterNd", scatter_nd},    {"segmentSum", segment_sum},
    {"oneHot", one_hot}, {"bincount", bincount},  {"multinomial", multinomial},
};

}  // namespace

void register_index(Napi::Env env, Napi::Object ops) { register_ops(env, ops, kOps); }

}  // namespace eq::addon
