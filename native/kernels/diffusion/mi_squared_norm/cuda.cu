// Weighted squared distance of two noise estimates per sample, and its gradient: op.h.
//
// Forward: bytes 2 n elements in, FLOPs 3 n; 512 threads, a block per sample or per sum block of 16,384 elements, as
// in guided_step. Backward: 3 n elements, 2 n; 256 threads, one vector of 16 bytes a thread and turn, a row of blocks
// per sample, so that no thread divides. No dynamic shared memory.
//
// Limits: where the storages of c and u differ or a sample's size is no multiple of the vector, element by element.
#include "kernels/diffusion/sum_blocks.cuh"
#include "op.h"

namespace eq {

namespace {

using namespace sums;

template <class T>
__global__ void __launch_bounds__(kThreads, kBlocksPerProcessor)
    squared_norms(MISquaredNormArgs a, Split split, std::int64_t items) {
  constexpr int kN = kLanes<T>;
  __shared__ double shared[kThreads / 32];
  for (std::int64_t item = blockIdx.x; item < items; item += gridDim.x) {
    const Range range = item_range(split, item);
    const double total =
        range_sum<kN>(range.begin, range.end, shared, [&a](auto vectors, std::int64_t at, std::int64_t stride) {
          float c[vectors][kN], u[vectors][kN], sum = 0;
#pragma unroll
          for (int v = 0; v < vectors; ++v) {
            load_at<T>(a.cond, a.cond_type, at + v * stride, c[v]);
            load_at<T>(a.uncond, a.uncond_type, at + v * stride, u[v]);
          }
#pragma unroll
          for (int v = 0; v < vectors; ++v)
#pragma unroll
            for (int i = 0; i < kN; ++i) sum += (c[v][i] - u[v][i]) * (c[v][i] - u[v][i]);
          return sum;
        });
    if (threadIdx.x != 0) continue;
    if (split.pieced)
      a.partial[item] = total;
    else
      a.mi[range.sample] = static_cast<float>(static_cast<double>(a.weights[range.sample]) * total);
  }
}

constexpr int kGradThreads = 256;

template <class T>
__global__ void __launch_bounds__(kGradThreads) squared_norm_gradients(MISquaredNormGradArgs a) {
  constexpr int kN = kLanes<T>;
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kGradThreads * kN;
  for (std::int64_t sample = blockIdx.y; sample < a.samples; sample += gridDim.y) {
    const float factor = 2 * a.dy[sample] * a.weights[sample];
    std::int64_t at = (static_cast<std::int64_t>(blockIdx.x) * kGradThreads + threadIdx.x) * kN;
    for (; at < a.per_sample; at += stride) {
      const std::int64_t i = sample * a.per_sample + at;
      float c[kN], u[kN], out[kN];
      load_at<T>(a.cond, a.cond_type, i, c);
      load_at<T>(a.uncond, a.uncond_type, i, u);
#pragma unroll
      for (int j = 0; j < kN; ++j) out[j] = factor * (c[j] - u[j]);
      store_at<T>(a.out, a.cond_type, i, out);
    }
  }
}

template <class T>
void launch_gradients(Device& device, const OpInfo& info, const MISquaredNormGradArgs& a) {
  if (a.per_sample == 0) return;
  const auto rows = static_cast<unsigned>(std::min<std::int64_t>(a.samples, 65535));
  const int waves = rows == 0 ? 1 : std::max(1, 64 / static_cast<int>(std::min<unsigned>(rows, 64)));
  const unsigned columns = grid_for(device, a.per_sample, kGradThreads * kLanes<T>, waves);
  launch_kernel(device, info, squared_norm_gradients<T>, {.grid_x = columns, .grid_y = rows, .block = kGradThreads}, a);
}

/// Calls f with the storage that `a` can be read with in vectors, or with AnyFloat.
template <class Args, class F>
void with_storage(const Args& a, const void* out, F f) {
  with_float_type(a.cond_type, [&](auto type) {
    if (a.cond_type == a.uncond_type && all_fit(a.per_sample, kLanes<decltype(type)>, a.cond, a.uncond, out))
      f(type);
    else
      f(AnyFloat{});
  });
}

}  // namespace

void mi_squared_norm_launch(Device& device, const OpInfo& info, const MISquaredNormArgs& args) {
  const Split split = split_samples(device, args.samples, args.per_sample, args.blocks());
  const auto grid = static_cast<unsigned>(std::min<std::int64_t>(split.items(), 0x7fffffff));
  with_storage(args, static_cast<const void*>(nullptr), [&](auto type) {
    launch_kernel(device, info, squared_norms<decltype(type)>, {.grid_x = grid, .block = kThreads}, args, split,
                  split.items());
  });
  finish(device, info, split, args.partial, args.weights, 0.0f, args.mi);
}

void mi_squared_norm_grad_launch(Device& device, const OpInfo& info, const MISquaredNormGradArgs& args) {
  with_storage(args, args.out, [&](auto type) { launch_gradients<decltype(type)>(device, info, args); });
}

}  // namespace eq
