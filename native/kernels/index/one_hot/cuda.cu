// One thread an index sets one element of y, which is `off` already: 4 bytes read and one element written for each.
#include "kernels/convert.cuh"
#include "kernels/packet.cuh"
#include "op.h"

namespace eq {

namespace {

constexpr int kThreads = 256;

__global__ __launch_bounds__(kThreads) void one_hot_kernel(const OneHotArgs a) {
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kThreads;
  for (std::int64_t n = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x; n < a.count; n += stride) {
    const std::int32_t index = __ldg(a.indices + n);
    if (index < 0 || index >= a.depth) continue;
    const std::int64_t at = n * a.depth + index;
    if (a.type == DType::I32)
      store_one(a.y, a.type, at, to_int32(a.on));
    else
      store_one(a.y, a.type, at, a.type == DType::Bool ? static_cast<float>(a.on != 0) : a.on);
  }
}

}  // namespace

void one_hot_launch(Device& device, const OpInfo& info, const OneHotArgs& args) {
  launch_kernel(device, info, one_hot_kernel, {.grid_x = grid_for(device, args.count, kThreads, 32), .block = kThreads},
                args);
}

}  // namespace eq
