// One launch of the row copy (rows.cuh), which looks up each word's index: 2 * size of y + indices bytes. An index
// outside 0..dim-1 is reported and its row left alone.
#include "kernels/rows.cuh"
#include "op.h"

namespace eq {

namespace {

struct Gathered {
  const std::int32_t* indices;
  std::int64_t dim, count;
  IndexDivisor by_count, by_outer;
  Fault fault;

  __device__ std::int64_t operator()(std::int64_t n) const {
    const std::int64_t slice = by_count.divide(n);  // batch * outer
    std::int64_t outer = slice;
    const std::int64_t batch = by_outer.divide(outer);
    const std::int32_t index = __ldg(indices + batch * count + n);
    if (index < 0 || index >= dim) {
      raise(fault, index, dim - 1);
      return -1;
    }
    return slice * dim + index;
  }
};

}  // namespace

void gather_launch(Device& device, const OpInfo& info, const GatherArgs& a) {
  const std::int64_t slices = a.batch * a.outer, rows = slices * a.count;
  if (rows == 0) return;
  const Gathered source{a.indices,
                        a.dim,
                        a.count,
                        IndexDivisor(a.count, rows),
                        IndexDivisor(a.outer, slices),
                        fault_site(device, info, "index % is outside 0..%")};
  copy_rows(device, info, a.x, a.y, rows, a.inner * static_cast<std::int64_t>(a.element_size), source);
}

}  // namespace eq
