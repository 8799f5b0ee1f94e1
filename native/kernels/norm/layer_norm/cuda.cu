// Layer normalisation and its gradients: op.h.
//
// Bytes: x in, y out (backward: x and dy in, dx out; parameter gradients: x and dy in). FLOPs: 8 R C, 11 R C, 5 R C.
//
// Rows of up to 2,048: a warp takes a row, which stays in registers from the loads (16 bytes each, all in flight
// together) to the stores; mean, then squared deviations from it. Launch: 256 threads, eight rows a block, 40 to 180
// registers for 16, 40 or 64 elements a lane (C <= 512, 1280, 2048). No shared memory.
// Other rows, mixed storages and odd sizes: a block of 256 threads takes a row and reads it three times (backward:
// twice) through the caches.
// Parameter gradients: column_sums.cuh, blocks of about 16 K elements.
#include "kernels/norm/column_sums.cuh"

#include "op.h"

namespace eq {

namespace {

constexpr int kThreads = 256;
constexpr int kRows = kThreads / 32;

__device__ inline float reciprocal_root(float squares, std::int64_t channels, float epsilon) {
  return 1.0f / sqrtf(squares / static_cast<float>(channels) + epsilon);
}

/// Calls f(v, at) for each vector of a row that this lane holds: vector v at channel `at`.
template <int kVectors, int kN, class F>
__device__ inline void for_row(std::int64_t channels, F f) {
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
    const std::int64_t at = (v * 32 + threadIdx.x % 32) * kN;
    if (at < channels) f(v, at);
  }
}

template <class T, int kElements>
__global__ void __launch_bounds__(kThreads) normalise_rows(LayerNormArgs a) {
  constexpr int kN = kLanes<T>, kVectors = kElements / kN;
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * kRows + threadIdx.x / 32;
  if (row >= a.rows) return;
  float x[kVectors][kN];
  for_row<kVectors, kN>(a.channels,
                        [&](int v, std::int64_t at) { load_at<T>(a.x, a.type, row * a.channels + at, x[v]); });
  float sum = 0;
  for_row<kVectors, kN>(a.channels, [&](int v, std::int64_t) {
#pragma unroll
    for (int i = 0; i < kN; ++i) sum += x[v][i];
  });
  const float mean = warp_sum(sum) / static_cast<float>(a.channels);
  float squares = 0;
  for_row<kVectors, kN>(a.channels, [&](int v, std::int64_t) {
#pragma unroll
    for (int i = 0; i < kN; ++i) {
      x[v][i] -= mean;
      squares += x[v][i] * x[v][i];
    }
  });
  const float rstd = reciprocal_root(warp_sum(squares), a.channels, a.epsilon);
  for_row<kVectors, kN>(a.channels, [&](int v, std::int64_t at) {
    float gamma[kN], beta[kN];
    load_vector(a.gamma + at, gamma);
    load_vector(a.beta + at, beta);
#pragma unroll
    for (int i = 0; i < kN; ++i) x[v][i] = x[v][i] * rstd * gamma[i] + beta[i];
    store_at<T>(a.y, a.type, row * a.channels + at, x[v]);
  });
  if (threadIdx.x % 32 != 0) return;
  a.mean[row] = mean;
  a.rstd[row] = rstd;
}

template <class T>
__global__ void __launch_bounds__(kThreads) normalise_long_rows(LayerNormArgs a) {
  constexpr int kN = kLanes<T>;
  __shared__ double shared[kThreads / 32];
  const auto count = static_cast<double>(a.channels);
  for (std::int64_t row = blockIdx.x; row < a.rows; row += gridDim.x) {
    const std::int64_t first = row * a.channels;
    double total = 0;
    for (std::int64_t at = threadIdx.x * kN; at < a.channels; at += kThreads * kN) {
      float x[kN], sum = 0;
      load_at<T>(a.x, a.type, first + at, x);
#pragma unroll
      for (int i = 0; i < kN; ++i) sum += x[i];
      total += static_cast<double>(sum);
    }
    const auto mean = static_cast<float>(block_sum<kThreads>(total, shared) / count);
    total = 0;
    for (std::int64_t at = threadIdx.x * kN; at < a.channels; at += kThreads * kN) {
      float x[kN], sum = 0;
      load_at<T>(a.x, a.type, first + at, x);
#pragma unroll
      for (int i = 0; i < kN; ++i) sum += (x[i] - mean) * (x[i] - mean);
      total += static_cast<double>(sum);
    }
    const auto squares = static_cast<float>(block_sum<kThreads>(total, shared));
    const float rstd = reciprocal_root(squares, a.channels, a.epsilon);
    for (std::int64_t at = threadIdx.x * kN; at < a.channels; at += kThreads * kN) {
      float x[kN], gamma[kN], beta[kN];
      load_at<T>(a.x, a.type, first + at, x);
      load_vector(a.gamma + at, gamma);
      load_vector(a.beta + at, beta);
#pragma unroll
      for (int i = 0; i < kN; ++i) x[i] = (x[i] - mean) * rstd * gamma[i] + beta[i];
      store_at<T>(a.y, a.type, first + at, x);
    }
    if (threadIdx.x != 0) continue;
    a.mean[row] = mean;
    a.rstd[row] = rstd;
  }
}

template <class T, int kElements>
__global__ void __launch_bounds__(kThreads) differentiate_rows(LayerNormGradArgs a) {
  constexpr int kN = kLanes<T>, kVectors = kElements / kN;
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * kRows + threadIdx.x / 32;
  if (row >= a.rows) return;
  const float mean = a.mean[row], rstd = a.rstd[row];
  // The normalised input and g = dy gamma.
  float h[kVectors][kN], g[kVectors][kN];
  for_row<kVectors, kN>(a.channels, [&](int v, std::int64_t at) {
    load_at<T>(a.x, a.x_type, row * a.channels + at, h[v]);
    load_at<T>(a.dy, a.dy_type, row * a.channels + at, g[v]);
  });
  float sum = 0, dot = 0;
  for_row<kVectors, kN>(a.channels, [&](int v, std::int64_t at) {
    float gamma[kN];
    load_vector(a.gamma + at, gamma);
#pragma unroll
    for (int i = 0; i < kN; ++i) {
      h[v][i] = (h[v][i] - mean) * rstd;
      g[v][i] *= gamma[i];
      sum += g[v][i];
      dot += g[v][i] * h[v][i];
    }
  });
  const float mean_g = warp_sum(sum) / static_cast<float>(a.channels);
  const float mean_gh = warp_sum(dot) / static_cast<float>(a.channels);
  for_row<kVectors, kN>(a.channels, [&](int v, std::int64_t at) {
#pragma unroll
    for (int i = 0; i < kN; ++i) g[v][i] = rstd * (g[v][i] - mean_g - h[v][i] * mean_gh);
    store_at<T>(a.dx, a.x_type, row * a.channels + at, g[v]);
  });
}

template <class T>
__global__ void __launch_bounds__(kThreads) differentiate_long_rows(LayerNormGradArgs a) {
  constexpr int kN = kLanes<T>;
  __shared__ double shared[kThreads / 32];
  const auto count = static_cast<double>(a.channels);
  for (std::int64_t row = blockIdx.x; row < a.rows; row += gridDim.x) {
    const float mean = a.mean[row], rstd = a.rstd[row];
    const auto load = [&](std::int64_t at, float(&h)[kN], float(&g)[kN]) {
      float gamma[kN];
      load_at<T>(a.x, a.x_type, row * a.channels + at, h);
      load_at<T>(a.dy, a.dy_type, row * a.channels + at, g);
      load_vector(a.gamma + at, gamma);
#pragma unroll
      for (int i = 0; i < kN; ++i) {
        h[i] = (h[i] - mean) * rstd;
        g[i] *= gamma[i];
      }
    };
    double plain = 0, along = 0;
    for (std::int64_t at = threadIdx.x * kN; at < a.channels; at += kThreads * kN) {
      float h[kN], g[kN], sum = 0, dot = 0;
      load(at, h, g);
#pragma unroll
      for (int i = 0; i < kN; ++i) {
        sum += g[i];
        dot += g[i] * h[i];
      }
      plain += static_cast<double>(sum);
      along += static_cast<double>(dot);
    }
    const auto mean_g = static_cast<float>(block_sum<kThreads>(plain, shared) / count);
    const auto mean_gh = static_cast<float>(block_sum<kThreads>(along, shared) / count);
    for (std::int64_t at = threadIdx.x * kN; at < a.channels; at += kThreads * kN) {
      float h[kN], g[kN];
      load(at, h, g);
#pragma unroll
      for (int i = 0; i < kN; ++i) g[i] = rstd * (g[i] - mean_g - h[i] * mean_gh);
      store_at<T>(a.dx, a.x_type, row * a.channels + at, g);
    }
  }
}

template <class T>
__global__ void __launch_bounds__(columns::kThreads)
    parameter_sums(LayerNormParamGradArgs a, std::int64_t block_rows, columns::Layout layout) {
  constexpr int kN = kLanes<T>;
  columns::add_block<kN>(layout, a.rows, block_rows, a.partial,
                         [&a](std::int64_t row, std::int64_t column, float(&dgamma)[kN], float(&dbeta)[kN]) {
                           float x[kN], dy[kN];
                           load_at<T>(a.x, a.x_type, row * a.channels + column, x);
                           load_at<T>(a.dy, a.dy_type, row * a.channels + column, dy);
                           const float mean = a.mean[row], rstd = a.rstd[row];
#pragma unroll
                           for (int i = 0; i < kN; ++i) {
                             dgamma[i] += dy[i] * (x[i] - mean) * rstd;
                             dbeta[i] += dy[i];
                           }
                         });
}

/// Elements a lane must hold of a row: 16, 40 or 64, or 0 where a row does not stay in registers.
int lane_elements(std::int64_t channels) {
  for (const int elements : {16, 40, 64})
    if (channels <= 32 * elements) return elements;
  return 0;
}

Launch warp_per_row(std::int64_t rows) {
  return {.grid_x = static_cast<unsigned>((rows + kRows - 1) / kRows), .block = kThreads};
}
Launch block_per_row(std::int64_t rows) {
  return {.grid_x = static_cast<unsigned>(std::min<std::int64_t>(rows, 1 << 30)), .block = kThreads};
}

}  // namespace

void layer_norm_launch(Device& device, const OpInfo& info, const LayerNormArgs& args) {
  with_float_type(args.type, [&](auto type) {
    using T = decltype(type);
    const bool fits = all_fit(args.channels, kLanes<T>, args.x, args.y, args.gamma, args.beta);
    const int elements = fits ? lane_elements(args.channels) : 0;
    if (elements == 0)
      launch_kernel(device, info, fits ? normalise_long_rows<T> : normalise_long_rows<AnyFloat>,
                    block_per_row(args.rows), args);
    else
      launch_kernel(device, info,
                    elements == 16   ? normalise_rows<T, 16>
                    : elements == 40 ? normalise_rows<T, 40>
                                     : normalise_rows<T, 64>,
                    warp_per_row(args.rows), args);
  });
}

void layer_norm_grad_launch(Device& device, const OpInfo& info, const LayerNormGradArgs& args) {
  with_float_type(args.x_type, [&](auto type) {
    using T = decltype(type);
    const bool fits =
        args.dy_type == args.x_type && all_fit(args.channels, kLanes<T>, args.x, args.dy, args.dx, args.gamma);
    const int elements = fits ? lane_elements(args.channels) : 0;
    if (elements == 0)
      launch_kernel(device, info, fits ? differentiate_long_rows<T> : differentiate_long_rows<AnyFloat>,
                    block_per_row(args.rows), args);
    else
      launch_kernel(device, info,
                    elements == 16   ? differentiate_rows<T, 16>
                    : elements == 40 ? differentiate_rows<T, 40>
                                     : differentiate_rows<T, 64>,
                    warp_per_row(args.rows), args);
  });
}

void layer_norm_param_grad_launch(Device& device, const OpInfo& info, const LayerNormParamGradArgs& args) {
  const std::int64_t block_rows = norm_block_rows(args.channels), blocks = (args.rows + block_rows - 1) / block_rows;
  with_float_type(args.x_type, [&](auto type) {
    using T = decltype(type);
    const bool fits = args.dy_type == args.x_type && all_fit(args.channels, kLanes<T>, args.x, args.dy);
    const columns::Layout layout = columns::layout(args.channels, fits ? kLanes<T> : 1);
    launch_kernel(device, info, fits ? parameter_sums<T> : parameter_sums<AnyFloat>, layout.launch(blocks), args,
                  block_rows, layout);
  });
  columns::add_blocks(device, info, args.partial, blocks, args.channels, args.dgamma, args.dbeta);
}

}  // namespace eq
