// GEGLU and its gradient: op.h.
//
// Bytes: 3 R C elements forward, 5 R C backward; FLOPs: about 25 R C and 45 R C. Launch: 256 threads, one vector of 16
// bytes of the value, of the gate and of dy each in flight per thread and turn, two turns; no shared memory. The row of
// a vector comes from a multiplication (divide.cuh).
//
// Limits: rows whose size is no multiple of the vector, mixed storages and more than 2^31 vectors go element by
// element, with a true division beyond 2^31.
#include "kernels/activation/functions.cuh"
#include "runtime/cuda/divide.cuh"
#include "runtime/cuda/storage.cuh"

#include "op.h"

namespace eq {

namespace {

constexpr int kThreads = 256;
constexpr int kUnroll = 2;

/// Where the vectors of x, y and dy lie.
struct Rows {
  std::int64_t vectors, per_row;
  /// Whether all numbers are below 2^31.
  bool small;
  Divisor row_vectors;

  __device__ std::int64_t row(std::int64_t vector) const {
    return small ? row_vectors.divide(static_cast<std::uint32_t>(vector)) : vector / per_row;
  }
};

template <class T, bool kGrad>
__global__ void __launch_bounds__(kThreads) gate(GegluArgs a, Rows rows) {
  constexpr int kN = kLanes<T>;
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * kUnroll * kThreads + threadIdx.x;
  float value[kUnroll][kN], gates[kUnroll][kN], dy[kUnroll][kN];
  std::int64_t halves[kUnroll];
#pragma unroll
  for (int v = 0; v < kUnroll; ++v) {
    const std::int64_t vector = first + v * kThreads;
    if (vector >= rows.vectors) break;
    // The value lies a whole number of rows further on in x than in y.
    halves[v] = rows.row(vector) * a.channels;
    load_at<T>(a.x, a.x_type, vector * kN + halves[v], value[v]);
    load_at<T>(a.x, a.x_type, vector * kN + halves[v] + a.channels, gates[v]);
    if constexpr (kGrad) load_at<T>(a.dy, a.dy_type, vector * kN, dy[v]);
  }
#pragma unroll
  for (int v = 0; v < kUnroll; ++v) {
    const std::int64_t vector = first + v * kThreads;
    if (vector >= rows.vectors) break;
    float out[kN], gate_out[kN];
#pragma unroll
    for (int i = 0; i < kN; ++i) {
      const float g = gates[v][i], cdf = normal_cdf(g);
      if constexpr (kGrad) {
        out[i] = dy[v][i] * g * cdf;
        gate_out[i] = dy[v][i] * value[v][i] * (cdf + g * normal_density(g));
      } else {
        out[i] = value[v][i] * (g * cdf);
      }
    }
    if constexpr (kGrad) {
      store_at<T>(a.out, a.out_type, vector * kN + halves[v], out);
      store_at<T>(a.out, a.out_type, vector * kN + halves[v] + a.channels, gate_out);
    } else {
      store_at<T>(a.out, a.out_type, vector * kN, out);
    }
  }
}

template <class T>
void launch(Device& device, const OpInfo& info, const GegluArgs& a) {
  const std::int64_t per_row = a.channels / kLanes<T>, vectors = a.rows * per_row;
  const bool small = vectors < (std::int64_t{1} << 31);
  const Rows rows{vectors, per_row, small, small ? Divisor(per_row) : Divisor()};
  constexpr std::int64_t kTile = kThreads * kUnroll;
  const auto grid = static_cast<unsigned>((vectors + kTile - 1) / kTile);
  launch_kernel(device, info, a.dy != nullptr ? gate<T, true> : gate<T, false>, {.grid_x = grid, .block = kThreads}, a,
                rows);
}

}  // namespace

void geglu_launch(Device& device, const OpInfo& info, const GegluArgs& args) {
  if (args.channels == 0 || args.rows == 0) return;
  const bool same = args.out_type == args.x_type && (args.dy == nullptr || args.dy_type == args.x_type);
  with_float_type(args.x_type, [&](auto type) {
    using T = decltype(type);
    if (same && all_fit(args.channels, kLanes<T>, args.x, args.dy, args.out))
      launch<T>(device, info, args);
    else
      launch<AnyFloat>(device, info, args);
  });
}

}  // namespace eq
