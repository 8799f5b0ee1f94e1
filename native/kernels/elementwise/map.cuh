// The one kernel behind the elementwise ops: y_i = f(x_i, ...) with broadcasting, f a functor on single numbers.
//
// A block of 256 threads takes 2048 outputs at a time, eight a thread.
//   packed:  the eight are consecutive (see packet.cuh). Possible where the innermost loop is the only one, or a
//            multiple of eight; an operand that stands still there is read once for the eight.
//   else:    the eight lie 256 apart, so that the threads of a warp read neighbours, and each finds its own offset.
// Launch: enough blocks to cover n, at most 32 a multiprocessor. Memory-bound unless f is a call to the math library.
#pragma once

#include "kernels/packet.cuh"
#include "kernels/strides.cuh"

namespace eq {

inline constexpr int kMapThreads = 256;
inline constexpr int kMapTile = kMapThreads * kPacket;
inline constexpr int kMapWaves = 32;

template <int kInputs>
struct Map {
  const void* x[kInputs];
  DType x_type[kInputs];
  void* y;
  DType y_type;
  bool packed;
  /// Operands that are the same along the innermost loop.
  bool still[kInputs];
  std::int64_t n;
  Nest<kInputs, Shape::kMaxRank> nest;
};

/// `loops` are those of y (collapsed), with an operand for each input.
template <int kInputs>
Map<kInputs> make_map(const void* const (&x)[kInputs], const DType (&x_type)[kInputs], void* y, DType y_type,
                      const Loops& loops) {
  Map<kInputs> map{};
  map.y = y;
  map.y_type = y_type;
  map.n = loops.count();
  const int last = loops.rank - 1;
  map.packed = packets_fit(y, y_type) && (last == 0 || loops.size[last] % kPacket == 0);
  for (int k = 0; k < kInputs; ++k) {
    map.x[k] = x[k];
    map.x_type[k] = x_type[k];
    map.still[k] = loops.step[k][last] == 0;
    if (map.still[k]) continue;
    map.packed = map.packed && loops.step[k][last] == 1 && packets_fit(x[k], x_type[k]);
    for (int d = 0; d < last; ++d) map.packed = map.packed && loops.step[k][d] % kPacket == 0;
  }
  if (map.n > 0) map.nest = Nest<kInputs, Shape::kMaxRank>(loops);
  return map;
}
/// One input of the shape of y.
inline Map<1> make_map(const void* x, DType x_type, void* y, DType y_type, std::int64_t n) {
  Loops loops;
  loops.rank = loops.operands = 1;
  loops.size[0] = n;
  loops.step[0][0] = 1;
  return make_map<1>({x}, {x_type}, y, y_type, loops);
}

/// f of one number of each input.
template <class F, class In, int kInputs>
__device__ inline typename F::Out apply(const F& f, const In (&x)[kInputs]) {
  static_assert(kInputs >= 1 && kInputs <= 3);
  if constexpr (kInputs == 1)
    return f(x[0]);
  else if constexpr (kInputs == 2)
    return f(x[0], x[1]);
  else
    return f(x[0], x[1], x[2]);
}

/// Where output i reads its inputs. A single input is never broadcast.
template <int kInputs>
__device__ inline void map_offsets(const Map<kInputs>& map, std::int64_t i, std::int64_t (&at)[kInputs]) {
  if constexpr (kInputs == 1)
    at[0] = i;
  else
    map.nest.offsets(i, at);
}

/// Eight consecutive outputs from `first` on.
template <class F, int kInputs>
__device__ inline void map_packet(const Map<kInputs>& map, const F& f, std::int64_t first) {
  using In = typename F::In;
  std::int64_t at[kInputs];
  map_offsets(map, first, at);
  Packet packets[kInputs];
#pragma unroll
  for (int k = 0; k < kInputs; ++k) packets[k] = map.still[k] ? Packet{} : load_packet(map.x[k], map.x_type[k], at[k]);
  In in[kInputs][kPacket];
#pragma unroll
  for (int k = 0; k < kInputs; ++k) {
    if (map.still[k]) {
      const In value = load_one<In>(map.x[k], map.x_type[k], at[k]);
#pragma unroll
      for (int j = 0; j < kPacket; ++j) in[k][j] = value;
    } else {
      unpack(packets[k], map.x_type[k], in[k]);
    }
  }
  typename F::Out out[kPacket];
#pragma unroll
  for (int j = 0; j < kPacket; ++j) {
    In x[kInputs];
#pragma unroll
    for (int k = 0; k < kInputs; ++k) x[k] = in[k][j];
    out[j] = apply(f, x);
  }
  store_packet(map.y, map.y_type, first, out);
}

/// F has the types In (float or int) and Out (float, int, unsigned char) and gives Out from kInputs values of In.
template <class F, int kInputs>
__global__ __launch_bounds__(kMapThreads) void map_kernel(const __grid_constant__ Map<kInputs> map, const F f) {
  using In = typename F::In;
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kMapTile;
  for (std::int64_t tile = static_cast<std::int64_t>(blockIdx.x) * kMapTile; tile < map.n; tile += stride) {
    const std::int64_t first = tile + static_cast<int>(threadIdx.x) * (map.packed ? kPacket : 1);
    if (map.packed && first + kPacket <= map.n) {
      map_packet(map, f, first);
      continue;
    }
#pragma unroll 1
    for (int j = 0; j < kPacket; ++j) {
      const std::int64_t i = first + j * (map.packed ? 1 : kMapThreads);
      if (i >= map.n) break;
      std::int64_t at[kInputs];
      map_offsets(map, i, at);
      In x[kInputs];
#pragma unroll
      for (int k = 0; k < kInputs; ++k) x[k] = load_one<In>(map.x[k], map.x_type[k], at[k]);
      store_one(map.y, map.y_type, i, apply(f, x));
    }
  }
}

template <int kInputs>
Launch map_grid(Device& device, const Map<kInputs>& map) {
  return {.grid_x = grid_for(device, map.n, kMapTile, kMapWaves), .block = kMapThreads};
}
template <class F, int kInputs>
void launch_map(Device& device, const OpInfo& info, const Map<kInputs>& map, const F& f) {
  launch_kernel(device, info, map_kernel<F, kInputs>, map_grid(device, map), map, f);
}

}  // namespace eq
