// Activations and their gradients, elementwise: op.h.
//
// Bytes: 2 n elements forward, 3 n backward; FLOPs: about 20 n. In bf16 the memory of an H200 leaves about 27
// instructions for each element, so that the exact quotient and the library's error function would be too slow.
//
// Launch: 256 threads, each with two vectors of 16 bytes of every input in flight (kTile elements a block), as many
// blocks as tiles; no shared memory. Limits: x and dy of different storage go element by element.
#include "kernels/activation/functions.cuh"
#include "runtime/cuda/storage.cuh"

#include "op.h"

namespace eq {

namespace {

constexpr int kThreads = 256;
constexpr int kUnroll = 2;

/// f of kN elements, or dy times its derivative.
template <class F, bool kGrad, int kN>
__device__ inline void evaluate(const float (&x)[kN], const float (&dy)[kN], float (&y)[kN]) {
#pragma unroll
  for (int i = 0; i < kN; ++i) {
    if constexpr (kGrad)
      y[i] = dy[i] * F{}.derivative(x[i]);
    else
      y[i] = F{}(x[i]);
  }
}

template <class T, class F, bool kGrad>
__global__ void __launch_bounds__(kThreads) activate(ActivationArgs a) {
  constexpr int kN = kLanes<T>;
  constexpr std::int64_t kStep = kThreads * kN;
  const std::int64_t whole = a.n / kN * kN;
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * kUnroll * kStep + threadIdx.x * kN;
  float x[kUnroll][kN], dy[kUnroll][kN], y[kN];
#pragma unroll
  for (int v = 0; v < kUnroll; ++v) {
    const std::int64_t at = first + v * kStep;
    if (at >= whole) break;
    load_at<T>(a.x, a.x_type, at, x[v]);
    if constexpr (kGrad) load_at<T>(a.dy, a.dy_type, at, dy[v]);
  }
#pragma unroll
  for (int v = 0; v < kUnroll; ++v) {
    const std::int64_t at = first + v * kStep;
    if (at >= whole) break;
    evaluate<F, kGrad>(x[v], dy[v], y);
    store_at<T>(a.out, a.out_type, at, y);
  }
  // What is left behind the last vector.
  const std::int64_t rest = whole + threadIdx.x;
  if (kN > 1 && blockIdx.x == 0 && rest < a.n) {
    float one[1], up[1], result[1];
    load_at<AnyFloat>(a.x, a.x_type, rest, one);
    if constexpr (kGrad) load_at<AnyFloat>(a.dy, a.dy_type, rest, up);
    evaluate<F, kGrad>(one, up, result);
    store_at<AnyFloat>(a.out, a.out_type, rest, result);
  }
}

template <class T, class F>
void launch(Device& device, const OpInfo& info, const ActivationArgs& a) {
  constexpr std::int64_t kTile = kThreads * kLanes<T> * kUnroll;
  const auto grid = static_cast<unsigned>((a.n + kTile - 1) / kTile);
  launch_kernel(device, info, a.dy != nullptr ? activate<T, F, true> : activate<T, F, false>,
                {.grid_x = grid, .block = kThreads}, a);
}

template <class F>
void launch(Device& device, const OpInfo& info, const ActivationArgs& a) {
  const bool same = a.out_type == a.x_type && (a.dy == nullptr || a.dy_type == a.x_type);
  with_float_type(a.x_type, [&](auto type) {
    using T = decltype(type);
    if (same && all_fit(0, kLanes<T>, a.x, a.dy, a.out))
      launch<T, F>(device, info, a);
    else
      launch<AnyFloat, F>(device, info, a);
  });
}

}  // namespace

void activation_launch(Device& device, const OpInfo& info, const ActivationArgs& args) {
  switch (args.kind) {
    case Activation::Silu:
      return launch<Silu>(device, info, args);
    case Activation::QuickGelu:
      return launch<QuickGelu>(device, info, args);
    case Activation::Gelu:
      return launch<Gelu>(device, info, args);
  }
}

}  // namespace eq
