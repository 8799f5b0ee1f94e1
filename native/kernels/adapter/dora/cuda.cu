// What a DoRA layer needs beside its matrix products: op.h.
//
//   scale_matrix   memory-bound: 2 n elements; 256 threads, two vectors of 16 bytes in flight each. Transposed: tiles
//                  of 32 x 32 through shared memory (4 KB).
//   dora_norm      bytes: W once, cross and gram from cache; FLOPs: 2 N (K + r^2). A warp per row, eight to a block.
//   magnitude      bytes: dy and y once; FLOPs: 4 M N. Two launches: sums over blocks of rows, 256 threads, vectors of
//                  16 bytes; then columns of 32, 1024 threads a block. A column whose magnitude is 0 or drowned by its
//                  bias is summed from V itself there, by all threads of its block: 2 M (K + r) FLOPs for each.
//
// Limits: mixed storages and rows that are no multiple of the vector go element by element.
#include "kernels/norm/column_sums.cuh"
#include "runtime/cuda/divide.cuh"
#include "runtime/cuda/storage.cuh"

#include "op.h"

namespace eq {

namespace {

constexpr int kThreads = 256;
constexpr int kUnroll = 2;

template <class T>
__global__ void __launch_bounds__(kThreads)
    scale_rows(ScaleMatrixArgs a, std::int64_t vectors, std::int64_t per_row, bool small, Divisor divisor) {
  constexpr int kN = kLanes<T>;
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * kUnroll * kThreads + threadIdx.x;
  float x[kUnroll][kN];
#pragma unroll
  for (int v = 0; v < kUnroll; ++v)
    if (first + v * kThreads < vectors) load_at<T>(a.in, a.in_type, (first + v * kThreads) * kN, x[v]);
#pragma unroll
  for (int v = 0; v < kUnroll; ++v) {
    const std::int64_t vector = first + v * kThreads;
    if (vector >= vectors) break;
    const std::int64_t row = small ? divisor.divide(static_cast<std::uint32_t>(vector)) : vector / per_row;
    const std::int64_t column = (vector - row * per_row) * kN;
    const float factor = a.row_scale != nullptr ? a.row_scale[row] : 1.0f;
    float along[kN];
    if (a.column_scale != nullptr) load_vector(a.column_scale + column, along);
#pragma unroll
    for (int i = 0; i < kN; ++i) x[v][i] *= a.column_scale != nullptr ? factor * along[i] : factor;
    store_at<T>(a.out, a.out_type, vector * kN, x[v]);
  }
}

template <class T>
void launch_scale(Device& device, const OpInfo& info, const ScaleMatrixArgs& a) {
  const std::int64_t per_row = a.columns / kLanes<T>, vectors = a.rows * per_row;
  const bool small = vectors < (std::int64_t{1} << 31);
  constexpr std::int64_t kTile = kThreads * kUnroll;
  launch_kernel(device, info, scale_rows<T>,
                {.grid_x = static_cast<unsigned>((vectors + kTile - 1) / kTile), .block = kThreads}, a, vectors,
                per_row, small, small && per_row > 0 ? Divisor(per_row) : Divisor());
}

/// Words of the storage's size are moved as they are. A block takes tiles of 32 x 32, a warp four rows of one.
template <class Word>
__global__ void __launch_bounds__(kThreads)
    transpose(const Word* in, Word* out, std::int64_t rows, std::int64_t columns) {
  __shared__ Word tile[32][33];
  const std::int64_t across = (columns + 31) / 32, tiles = (rows + 31) / 32 * across;
  const unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  for (std::int64_t t = blockIdx.x; t < tiles; t += gridDim.x) {
    const std::int64_t row = t / across * 32, column = t % across * 32;
#pragma unroll
    for (unsigned i = warp; i < 32; i += kThreads / 32)
      if (row + i < rows && column + lane < columns) tile[i][lane] = in[(row + i) * columns + column + lane];
    __syncthreads();
#pragma unroll
    for (unsigned i = warp; i < 32; i += kThreads / 32)
      if (column + i < columns && row + lane < rows) out[(column + i) * rows + row + lane] = tile[lane][i];
    __syncthreads();
  }
}

template <class Word>
void launch_transpose(Device& device, const OpInfo& info, const ScaleMatrixArgs& a) {
  const std::int64_t tiles = (a.rows + 31) / 32 * ((a.columns + 31) / 32);
  launch_kernel(device, info, transpose<Word>,
                {.grid_x = static_cast<unsigned>(std::min<std::int64_t>(tiles, 1 << 30)), .block = kThreads},
                static_cast<const Word*>(a.in), static_cast<Word*>(a.out), a.rows, a.columns);
}

__global__ void __launch_bounds__(kThreads) divide(DoraScaleArgs a) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i < a.n) a.scale[i] = a.magnitude[i] / a.norm[i];
}

/// |w_j|^2 on all lanes: vectors added in float, everything beyond in double.
template <class T>
__device__ inline double squared_row(const DoraNormArgs& a, std::int64_t j) {
  constexpr int kN = kLanes<T>;
  double total = 0;
#pragma unroll 4
  for (std::int64_t at = threadIdx.x % 32 * kN; at < a.k; at += 32 * kN) {
    float w[kN], sum = 0;
    load_at<T>(a.weight, a.weight_type, j * a.k + at, w);
#pragma unroll
    for (int i = 0; i < kN; ++i) sum += w[i] * w[i];
    total += static_cast<double>(sum);
  }
  return warp_sum(total);
}

template <class T>
__global__ void __launch_bounds__(kThreads) row_norms(DoraNormArgs a) {
  const std::int64_t j = static_cast<std::int64_t>(blockIdx.x) * (kThreads / 32) + threadIdx.x / 32;
  if (j >= a.n) return;
  const auto b = [&a, j](std::int64_t p) {
    return static_cast<double>(load_float(a.lora_b, a.lora_b_type, j * a.rank + p));
  };
  double linear = 0, quadratic = 0;
  for (std::int64_t p = threadIdx.x % 32; p < a.rank; p += 32) {
    linear += b(p) * static_cast<double>(a.cross[j * a.rank + p]);
    // Column p of the Gram matrix: the form is the same, and neighbouring lanes read neighbours.
    double gram = 0;
    for (std::int64_t q = 0; q < a.rank; ++q) gram += static_cast<double>(a.gram[q * a.rank + p]) * b(q);
    quadratic += b(p) * gram;
  }
  const double squares =
      squared_row<T>(a, j) + 2 * a.scaling * warp_sum(linear) + a.scaling * a.scaling * warp_sum(quadratic);
  // Rounding can leave a vanishing row slightly below zero; NaN passes.
  if (threadIdx.x % 32 == 0) a.norm[j] = static_cast<float>(sqrt(squares < 0 ? 0 : squares));
}

/// Sums of dy y and of dy over a block of rows.
template <class T>
__global__ void __launch_bounds__(columns::kThreads)
    magnitude_sums(DoraMagnitudeGradArgs a, std::int64_t block_rows, columns::Layout layout) {
  constexpr int kN = kLanes<T>;
  columns::add_block<kN>(layout, a.m, block_rows, a.partial,
                         [&a](std::int64_t row, std::int64_t column, float(&products)[kN], float(&plain)[kN]) {
                           float dy[kN], y[kN];
                           load_at<T>(a.dy, a.dy_type, row * a.n + column, dy);
                           load_at<T>(a.y, a.y_type, row * a.n + column, y);
#pragma unroll
                           for (int i = 0; i < kN; ++i) {
                             products[i] += dy[i] * y[i];
                             plain[i] += dy[i];
                           }
                         });
}

/// sum over rows of dy_j (V x)_j from V itself, by all threads of a block: a warp per row.
__device__ double column_product(const DoraMagnitudeGradArgs& a, std::int64_t j, double* shared) {
  double total = 0;
  for (std::int64_t row = threadIdx.x / 32; row < a.m; row += columns::kSumThreads / 32) {
    double value = 0;
    for (std::int64_t k = threadIdx.x % 32; k < a.k; k += 32)
      value += static_cast<double>(load_float(a.x, a.x_type, row * a.k + k) *
                                   load_float(a.weight, a.weight_type, j * a.k + k));
    for (std::int64_t p = threadIdx.x % 32; p < a.rank; p += 32)
      value += static_cast<double>(a.scaling * a.u[row * a.rank + p]) *
               static_cast<double>(load_float(a.lora_b, a.lora_b_type, j * a.rank + p));
    total += value * static_cast<double>(load_float(a.dy, a.dy_type, row * a.n + j));
  }
  return block_sum<columns::kSumThreads>(total, shared);
}

__global__ void __launch_bounds__(columns::kSumThreads)
    magnitude_columns(DoraMagnitudeGradArgs a, std::int64_t blocks) {
  __shared__ double shared[columns::kSumThreads / 32];
  __shared__ bool drowned[32];
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * 32, j = first + threadIdx.x % 32;
  const columns::ColumnSums sums = columns::sum_blocks(a.partial, blocks, a.n, j);
  if (threadIdx.x < 32) {
    drowned[threadIdx.x] = false;
    if (j < a.n) {
      const double scale = static_cast<double>(a.scale[j]), norm = static_cast<double>(a.norm[j]);
      const double bias = a.bias != nullptr ? static_cast<double>(load_float(a.bias, a.bias_type, j)) : 0;
      // See cpu.cc: y - b is used only while the rounding of y leaves enough of it.
      const double smallest = a.y_type == DType::BF16 ? 0x1p-3 : 0x1p-10;
      drowned[threadIdx.x] = scale == 0 || fabs(scale * norm) < smallest * fabs(bias);
      if (!drowned[threadIdx.x]) a.out[j] = static_cast<float>((sums.first - bias * sums.second) / scale / norm);
    }
  }
  __syncthreads();
  for (int lane = 0; lane < 32; ++lane) {
    if (!drowned[lane]) continue;
    const double sum = column_product(a, first + lane, shared);
    if (threadIdx.x == 0) a.out[first + lane] = static_cast<float>(sum / static_cast<double>(a.norm[first + lane]));
  }
}

}  // namespace

void scale_matrix_launch(Device& device, const OpInfo& info, const ScaleMatrixArgs& args) {
  if (args.transposed) {
    if (args.in_type == DType::F32) return launch_transpose<std::uint32_t>(device, info, args);
    return launch_transpose<std::uint16_t>(device, info, args);
  }
  with_float_type(args.in_type, [&](auto type) {
    using T = decltype(type);
    if (args.out_type == args.in_type && all_fit(args.columns, kLanes<T>, args.in, args.out, args.column_scale))
      launch_scale<T>(device, info, args);
    else
      launch_scale<AnyFloat>(device, info, args);
  });
}

void dora_scale_launch(Device& device, const OpInfo& info, const DoraScaleArgs& args) {
  const auto grid = static_cast<unsigned>((args.n + kThreads - 1) / kThreads);
  launch_kernel(device, info, divide, {.grid_x = grid, .block = kThreads}, args);
}

void dora_norm_launch(Device& device, const OpInfo& info, const DoraNormArgs& args) {
  constexpr int kRows = kThreads / 32;
  const Launch launch{.grid_x = static_cast<unsigned>((args.n + kRows - 1) / kRows), .block = kThreads};
  with_float_type(args.weight_type, [&](auto type) {
    using T = decltype(type);
    launch_kernel(device, info, all_fit(args.k, kLanes<T>, args.weight) ? row_norms<T> : row_norms<AnyFloat>, launch,
                  args);
  });
}

void dora_magnitude_grad_launch(Device& device, const OpInfo& info, const DoraMagnitudeGradArgs& args) {
  with_float_type(args.dy_type, [&](auto type) {
    using T = decltype(type);
    const bool fits = args.y_type == args.dy_type && all_fit(args.n, kLanes<T>, args.dy, args.y);
    const columns::Layout layout = columns::layout(args.n, fits ? kLanes<T> : 1);
    launch_kernel(device, info, fits ? magnitude_sums<T> : magnitude_sums<AnyFloat>, layout.launch(args.blocks()), args,
                  args.block_rows(), layout);
  });
  const Launch launch{.grid_x = static_cast<unsigned>((args.n + 31) / 32), .block = columns::kSumThreads};
  launch_kernel(device, info, magnitude_columns, launch, args, args.blocks());
}

}  // namespace eq
