// The epilogue of the tile kernels: sums in shared memory become eight neighbouring outputs at a time,
//   y = act(scale * column_scale_n * sum + bias_n + beta * addend)
#pragma once

#include "kernels/gemm/core/tile_problem.cuh"

namespace eq::tile {

__device__ inline float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

/// Written so that NaN stays NaN.
template <int N>
__device__ inline void activate(float (&v)[N], FusedActivation activation, float leak, const float (&prelu)[N]) {
  const auto each = [&](auto f) {
#pragma unroll
    for (int i = 0; i < N; ++i) v[i] = f(v[i], prelu[i]);
  };
  switch (activation) {
    case FusedActivation::None:
      return;
    case FusedActivation::Relu:
      return each([](float x, float) { return x < 0.0f ? 0.0f : x; });
    case FusedActivation::Relu6:
      return each([](float x, float) { return x < 0.0f ? 0.0f : x > 6.0f ? 6.0f : x; });
    case FusedActivation::Elu:
      return each([](float x, float) { return x < 0.0f ? expm1f(x) : x; });
    case FusedActivation::LeakyRelu:
      return each([leak](float x, float) { return x < 0.0f ? x * leak : x; });
    case FusedActivation::Prelu:
      return each([](float x, float slope) { return x < 0.0f ? x * slope : x; });
    case FusedActivation::Sigmoid:
      return each([](float x, float) { return sigmoid(x); });
    case FusedActivation::Silu:
      return each([](float x, float) { return x * sigmoid(x); });
    case FusedActivation::Gelu:
      return each([](float x, float) { return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f)); });
    case FusedActivation::QuickGelu:
      return each([](float x, float) { return x * sigmoid(1.702f * x); });
  }
}

/// The vectors over the columns, for the eight columns of a thread. Columns beyond the output read as the last one.
struct ColumnValues {
  float scale[8], bias[8], prelu[8];
};
__device__ inline void load_columns(const ColumnVector& v, std::int64_t column, std::int64_t n, float factor,
                                    float absent, float (&out)[8]) {
  const auto fill = [&out](float x) {
#pragma unroll
    for (float& to : out) to = x;
  };
  // What is the same for all threads decides, so that absent vectors cost nothing.
  if (!v.data) return fill(absent);
  if (v.scalar) return fill(factor * load_float(v.data, v.dtype, 0));
  if (reinterpret_cast<std::uintptr_t>(v.data) % 16 == 0 && column + 8 <= n) {
    v.dtype == DType::BF16 ? load_vector<8>(static_cast<const bf16*>(v.data) + column, out)
                           : load_vector<8>(static_cast<const float*>(v.data) + column, out);
  } else {
#pragma unroll
    for (int i = 0; i < 8; ++i) out[i] = load_float(v.data, v.dtype, column + i < n ? column + i : n - 1);
  }
#pragma unroll
  for (float& to : out) to *= factor;
}
__device__ inline ColumnValues column_values(const Output& out, std::int64_t column) {
  ColumnValues v;
  load_columns(out.epilogue.column_scale, column, out.n, out.epilogue.scale, out.epilogue.scale, v.scale);
  load_columns(out.epilogue.bias, column, out.n, 1.0f, 0.0f, v.bias);
  load_columns(out.epilogue.prelu, column, out.n, 1.0f, 0.0f, v.prelu);
  return v;
}

template <class T>
__device__ inline void add_row(float beta, const T* from, int count, bool vectors, float (&v)[8]) {
  if (vectors && count == 8) {
    float x[8];
    load_vector<8>(from, x);
#pragma unroll
    for (int i = 0; i < 8; ++i) v[i] += beta * x[i];
    return;
  }
#pragma unroll
  for (int i = 0; i < 8; ++i)
    if (i < count) v[i] += beta * to_float(from[i]);
}
template <class T>
__device__ inline void store_row(T* to, int count, bool vectors, const float (&v)[8]) {
  if (vectors && count == 8) return store_vector<8>(to, v);
#pragma unroll
  for (int i = 0; i < 8; ++i)
    if (i < count) to[i] = from_float<T>(v[i]);
}

/// Adds the addend's eight elements from `at` on to v; the first `count` of them exist.
__device__ inline void add_addend(const Output& out, std::int64_t at, int count, float (&v)[8]) {
  const EpilogueArgs& e = out.epilogue;
  if (e.addend_dtype == DType::BF16)
    add_row(e.beta, static_cast<const bf16*>(e.addend) + at, count, out.vectors, v);
  else
    add_row(e.beta, static_cast<const float*>(e.addend) + at, count, out.vectors, v);
}

/// Finishes eight sums of a row at element `at` of the output; the first `count` of them exist. `added`: all but the
/// activation has been done.
__device__ inline void finish(const Output& out, const ColumnValues& columns, std::int64_t at, int count, float (&v)[8],
                              bool added = false) {
  const EpilogueArgs& e = out.epilogue;
  if (!added) {
#pragma unroll
    for (int i = 0; i < 8; ++i) v[i] = v[i] * columns.scale[i] + columns.bias[i];
    if (e.addend) add_addend(out, at, count, v);
  }
  activate(v, e.activation, e.leak, columns.prelu);
  if (out.type == DType::BF16)
    store_row(static_cast<bf16*>(out.c) + at, count, out.vectors, v);
  else
    store_row(static_cast<float*>(out.c) + at, count, out.vectors, v);
}

/// What a thread of kThreads does of kColumns columns: eight of every kStep-th row.
template <int kColumns, int kThreads>
struct RowShare {
  static constexpr int kGroups = kColumns / 8, kStep = kThreads / kGroups;
  int first_row, column, count;  ///< columns of the thread that exist

  __device__ RowShare(const Output& out, std::int64_t tile_column, int thread)
      : first_row(thread / kGroups), column(thread % kGroups * 8) {
    static_assert(kThreads % kGroups == 0);
    const std::int64_t left = out.n - tile_column - column;
    count = left >= 8 ? 8 : static_cast<int>(left);
  }
};

/// Finishes kRows rows of kColumns sums that lie in shared memory `pitch` floats apart, by kThreads threads of which
/// this is `thread`. (row, column) is the tile's place in the product, `offset` that of the matrix in the output.
template <int kRows, int kColumns, int kThreads>
__device__ inline void finish_rows(const Output& out, const ColumnValues& columns, const float* sums, int pitch,
                                   std::int64_t row, std::int64_t column, std::int64_t offset, int thread,
                                   bool added = false) {
  using Share = RowShare<kColumns, kThreads>;
  static_assert(kRows % Share::kStep == 0);
  const Share own(out, column, thread);
  if (own.count <= 0) return;
#pragma unroll 1
  for (int r = own.first_row; r < kRows && row + r < out.m; r += Share::kStep) {
    float v[8];
    load_vector<8>(sums + r * pitch + own.column, v);
    finish(out, columns, offset + out.rows.at(row + r) + column + own.column, own.count, v, added);
  }
}

/// The first half of finish_rows, for an addend: everything but the activation, left in shared memory. The addend's
/// rows are all under way before the first is used.
template <int kRows, int kColumns, int kThreads>
__device__ inline void add_rows(const Output& out, const ColumnValues& columns, float* sums, int pitch,
                                std::int64_t row, std::int64_t column, std::int64_t offset, int thread) {
  using Share = RowShare<kColumns, kThreads>;
  constexpr int kCount = kRows / Share::kStep;
  const Share own(out, column, thread);
  if (own.count <= 0) return;
  float x[kCount][8] = {};
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    const std::int64_t r = row + own.first_row + i * Share::kStep;
    if (r < out.m) add_addend(out, offset + out.rows.at(r) + column + own.column, own.count, x[i]);
  }
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    float* const at = sums + (own.first_row + i * Share::kStep) * pitch + own.column;
    float v[8];
    load_vector<8>(at, v);
#pragma unroll
    for (int j = 0; j < 8; ++j) v[j] = v[j] * columns.scale[j] + columns.bias[j] + x[i][j];
    store_vector<8>(at, v);
  }
}

}  // namespace eq::tile
