// One launch of ordered updates (ordered.cuh): each adds to, or replaces, the slice that its index tuple names. Bytes:
// updates, the slices they name, and the indices once a block. A tuple outside the tensor is reported and left out.
#include "kernels/index/ordered.cuh"
#include "kernels/packet.cuh"
#include "op.h"

namespace eq {

namespace {

/// T is how elements are read and added: float, or int, whose sums wrap.
template <class T>
__global__ __launch_bounds__(kOrderedThreads) void scatter_kernel(const __grid_constant__ ScatterNdArgs a,
                                                                  const __grid_constant__ Ordered o,
                                                                  const Fault fault) {
  apply_in_order(
      o,
      [&](std::int64_t n) {
        const std::int64_t row = a.index.row(a.indices + n * a.index.depth);
        if (row < 0) raise(fault, n);
        return row;
      },
      [&](std::int64_t row, std::int64_t n, std::int64_t c) {
        const std::int64_t at = row * a.slice + c;
        T value = load_one<T>(a.updates, a.type, a.one_update ? 0 : n * a.slice + c);
        if (a.add) {
          // Not load_one: y is written here, and must not be read through the read-only cache.
          if constexpr (std::is_same_v<T, float>)
            value = load_float(a.y, a.type, at) + value;
          else if (a.type == DType::I32)
            value = static_cast<int>(static_cast<unsigned>(static_cast<const int*>(a.y)[at]) +
                                     static_cast<unsigned>(value));
          else
            value += static_cast<const std::uint8_t*>(a.y)[at];
        }
        store_one(a.y, a.type, at, value);
      });
}

}  // namespace

void scatter_nd_launch(Device& device, const OpInfo& info, const ScatterNdArgs& args) {
  const Ordered o = make_ordered(device, args.count, args.index.rows(), args.slice);
  const Fault fault = fault_site(device, info, "indices[%] is outside the tensor");
  launch_kernel(device, info, is_float(args.type) ? scatter_kernel<float> : scatter_kernel<int>, ordered_grid(o), args,
                o, fault);
}

}  // namespace eq
