// One launch of the map kernel: n * (size of x + size of y) bytes. A kernel for each kind of number in (float, int) and
// out (float, int, bool); which of f32 and bf16 a float is, the packets know.
#include "kernels/convert.cuh"
#include "kernels/elementwise/map.cuh"
#include "op.h"

namespace eq {

namespace {

template <class From, class To>
struct Cast {
  using In = From;
  using Out = To;
  __device__ To operator()(From x) const {
    if constexpr (std::is_same_v<To, unsigned char>)
      return x != 0;
    else if constexpr (std::is_same_v<To, int> && std::is_same_v<From, float>)
      return x >= -2147483648.0f && x < 2147483648.0f ? static_cast<int>(x) : to_int32(x);
    else
      return static_cast<To>(x);
  }
};

template <class From>
void cast_from(Device& device, const OpInfo& info, const CastArgs& args) {
  const auto map = make_map(args.x, args.x_type, args.y, args.y_type, args.n);
  if (is_float(args.y_type))
    launch_map(device, info, map, Cast<From, float>{});
  else if (args.y_type == DType::I32)
    launch_map(device, info, map, Cast<From, int>{});
  else
    launch_map(device, info, map, Cast<From, unsigned char>{});
}

}  // namespace

void cast_launch(Device& device, const OpInfo& info, const CastArgs& args) {
  if (is_float(args.x_type))
    cast_from<float>(device, info, args);
  else
    cast_from<int>(device, info, args);
}

}  // namespace eq
