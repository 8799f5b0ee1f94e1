// One launch of ordered updates (ordered.cuh): each adds a row of x to its segment. Bytes: x and, for each row, its
// segment read and written; the ids once a block.
#include "kernels/index/ordered.cuh"
#include "kernels/packet.cuh"
#include "op.h"

namespace eq {

namespace {

/// T is float or unsigned: int32 sums wrap.
template <class T>
__global__ __launch_bounds__(kOrderedThreads) void segment_sum_kernel(const SegmentSumArgs a,
                                                                      const __grid_constant__ Ordered o) {
  using Value = std::conditional_t<std::is_same_v<T, float>, float, int>;
  apply_in_order(
      o,
      [&](std::int64_t r) {
        const std::int64_t segment = __ldg(a.ids + r);
        return segment < a.segments ? segment : -1;  // a negative one is none of anybody's rows
      },
      [&](std::int64_t segment, std::int64_t r, std::int64_t c) {
        T* y = static_cast<T*>(a.y) + segment * a.inner + c;
        *y += static_cast<T>(load_one<Value>(a.x, a.x_type, r * a.inner + c));
      });
}

}  // namespace

void segment_sum_launch(Device& device, const OpInfo& info, const SegmentSumArgs& args) {
  const Ordered o = make_ordered(device, args.rows, args.segments, args.inner);
  launch_kernel(device, info, args.y_type == DType::F32 ? segment_sum_kernel<float> : segment_sum_kernel<unsigned>,
                ordered_grid(o), args, o);
}

}  // namespace eq
