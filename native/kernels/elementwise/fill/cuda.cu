// y_i = start + i * step in double precision, stored eight at a time: n * size bytes written. 256 threads, as many
// blocks as cover n or 32 a multiprocessor; one multiplication, addition and conversion in f64 an element, well under
// the time of the store where the device has f64 units.
#include "kernels/convert.cuh"
#include "kernels/packet.cuh"
#include "op.h"

namespace eq {

namespace {

constexpr int kThreads = 256, kTile = kThreads * kPacket;

/// What is stored: float for f32 and bf16, int, unsigned char for bool.
template <class T>
__device__ T number(double v) {
  if constexpr (std::is_same_v<T, int>)
    return to_int32(v);
  else if constexpr (std::is_same_v<T, unsigned char>)
    return v != 0;
  else
    return static_cast<float>(v);
}

template <class T>
__global__ __launch_bounds__(kThreads) void range_kernel(const RangeArgs a, const bool packed) {
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kTile;
  const T constant = number<T>(a.start);
  for (std::int64_t at = static_cast<std::int64_t>(blockIdx.x) * kTile + threadIdx.x * kPacket; at < a.n;
       at += stride) {
    T values[kPacket];
#pragma unroll
    for (int i = 0; i < kPacket; ++i)
      // Not left to the sum: -0 + 0 is 0.
      values[i] = a.step == 0 ? constant : number<T>(a.start + static_cast<double>(at + i) * a.step);
    if (packed && at + kPacket <= a.n) {
      store_packet(a.y, a.type, at, values);
    } else {
#pragma unroll
      for (int i = 0; i < kPacket; ++i)
        if (at + i < a.n) store_one(a.y, a.type, at + i, values[i]);
    }
  }
}

}  // namespace

void range_launch(Device& device, const OpInfo& info, const RangeArgs& args) {
  const Launch launch{.grid_x = grid_for(device, args.n, kTile, 32), .block = kThreads};
  const bool packed = packets_fit(args.y, args.type);
  if (is_float(args.type))
    launch_kernel(device, info, range_kernel<float>, launch, args, packed);
  else if (args.type == DType::I32)
    launch_kernel(device, info, range_kernel<int>, launch, args, packed);
  else
    launch_kernel(device, info, range_kernel<unsigned char>, launch, args, packed);
}

}  // namespace eq
