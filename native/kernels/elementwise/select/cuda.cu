// One launch of the map kernel with three operands: the bytes of all tensors.
#include "kernels/elementwise/map.cuh"
#include "op.h"

namespace eq {

namespace {

template <class T>
struct Select {
  using In = T;
  using Out = T;
  __device__ T operator()(T condition, T a, T b) const { return condition != 0 ? a : b; }
};

}  // namespace

void select_launch(Device& device, const OpInfo& info, const SelectArgs& args) {
  const auto map = make_map<3>({args.condition, args.a, args.b}, {DType::Bool, args.a_type, args.b_type}, args.y,
                               args.y_type, args.loops);
  if (is_float(args.y_type))
    launch_map(device, info, map, Select<float>{});
  else
    launch_map(device, info, map, Select<int>{});
}

}  // namespace eq
