// One launch of the row copy (rows.cuh), which reads each word's index tuple: 2 * size of y + indices bytes. A tuple
// outside the tensor is reported and its row left alone.
#include "kernels/rows.cuh"
#include "op.h"

namespace eq {

namespace {

struct Named {
  const std::int32_t* indices;
  NdIndex index;
  Fault fault;

  __device__ std::int64_t operator()(std::int64_t n) const {
    const std::int64_t row = index.row(indices + n * index.depth);
    if (row < 0) raise(fault, n);
    return row;
  }
};

}  // namespace

void gather_nd_launch(Device& device, const OpInfo& info, const GatherNdArgs& a) {
  copy_rows(device, info, a.x, a.y, a.count, static_cast<std::int64_t>(a.slice_bytes),
            Named{a.indices, a.index, fault_site(device, info, "indices[%] is outside the tensor")});
}

}  // namespace eq
