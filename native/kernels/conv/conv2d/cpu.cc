#include "kernels/conv/core/patches.h"
#include "kernels/gemm/core/dispatch.h"
#include "kernels/gemm/core/driver.h"
#include "kernels/gemm/core/epilogue.h"
#include "kernels/gemm/core/frozen.h"
#include "op.h"
#include "runtime/cpu/device.h"

namespace eq {

/// One grid of a convolution, how its output is cut, and the bytes it needs.
struct ConvPlan {
  TapGrid grid;
  std::int64_t columns;                ///< channels of the result
  std::int64_t out_height, out_width;  ///< of the result
  bool transposed;                     ///< the filter's channel axes change places
  bool half;                           ///< panels hold bf16
  std::int64_t row_blocks, row_size, col_blocks, col_size;
  std::size_t packed, column_bytes;
};

}  // namespace eq

EQ_DECLARE_MATRIX(void conv_plan(ConvPlan& plan, const ConvArgs& a, int threads))
EQ_DECLARE_MATRIX(void conv_pack(const ConvArgs& a, const ConvPlan& plan, void* to, ThreadPool& pool))
EQ_DECLARE_MATRIX(void conv_compute(const ConvArgs& a, const ConvPlan& plan, const void* packed, float* columns,
                                    ThreadPool& pool))

namespace eq::EQ_ISA {

template <class T>
struct ConvProblem {
  using Element = T;
  static constexpr bool kMajor = false;

  const ConvArgs& args;
  const ConvPlan& plan;
  const T* packed;
  Columns column_vectors;

  std::int64_t batches() const { return 1; }
  std::int64_t rows() const { return plan.grid.rows(); }
  std::int64_t cols() const { return plan.columns; }
  std::int64_t row_stride() const { return plan.columns; }
  int segments() const { return 1; }
  std::int64_t depth(int) const { return plan.grid.depth(); }
  const T* packed_b(int, std::int64_t) const { return packed; }
  void pack_b(int, std::int64_t, std::int64_t panel, std::int64_t k, std::int64_t kc, std::int64_t padded,
              T* to) const {
    pack_b_matrix(0, 0, panel, k, kc, padded, to);
  }

  void pack_a(int, std::int64_t, std::int64_t row, std::int64_t n, std::int64_t k, std::int64_t kc, std::int64_t padded,
              T* to) const {
    if (args.x_dtype == DType::BF16)
      pack_patches(plan.grid, static_cast<const bf16*>(args.x), row, n, k, kc, padded, to);
    else
      pack_patches(plan.grid, static_cast<const float*>(args.x), row, n, k, kc, padded, to);
  }
  void pack_b_matrix(int, std::int64_t, std::int64_t panel, std::int64_t k, std::int64_t kc, std::int64_t padded,
                     T* to) const {
    if (args.filter_dtype == DType::BF16)
      pack_filter(static_cast<const bf16*>(args.filter), panel, k, kc, padded, to);
    else
      pack_filter(static_cast<const float*>(args.filter), panel, k, kc, padded, to);
  }
  float* direct(std::int64_t, std::int64_t row, std::int64_t col) const {
    const bool dense = plan.grid.y.out_step == 1 && plan.grid.x.out_step == 1;
    return dense && args.y_dtype == DType::F32 ? static_cast<float*>(args.y) + row * plan.columns + col : nullptr;
  }
  void finish(std::int64_t, std::int64_t row, const SumTile& tile) const {
    const TapAxis &y = plan.grid.y, &x = plan.grid.x;
    if (y.out_step == 1 && x.out_step == 1) {
      const std::int64_t first = row * plan.columns + tile.col;
      return finish_tile(args.epilogue, column_vectors, tile, args.y, args.y_dtype,
                         RowOffsets::equidistant(first, plan.columns, tile.rows));
    }
    RowOffsets offsets;
    GridPixel at = grid_pixel(plan.grid, row);
    for (std::int64_t r = 0; r < tile.rows; ++r, advance(plan.grid, at)) {
      const std::int64_t line = at.b * plan.out_height + at.p * y.out_step + y.out_first;
      offsets.at[r] = (line * plan.out_width + at.q * x.out_step + x.out_first) * plan.columns + tile.col;
    }
    finish_tile(args.epilogue, column_vectors, tile, args.y, args.y_dtype, offsets);
  }

 private:
  /// Offset in the filter of a tap of the grid.
  std::int64_t tap_at(std::int64_t tap) const {
    const TapAxis &y = plan.grid.y, &x = plan.grid.x;
    const std::int64_t r = y.filter_first + tap / x.taps * y.filter_step;
    const std::int64_t s = x.filter_first + tap % x.taps * x.filter_step;
    const ConvGeometry& g = args.geometry;
    return (r * g.filter_width + s) * g.channels * g.out_channels;
  }
  template <class S>
  void pack_filter(const S* f, std::int64_t panel, std::int64_t k, std::int64_t kc, std::int64_t padded, T* to) const {
    const ColumnPanels columns{plan.columns};
    const std::int64_t col = panel * kCols, used = columns.used(panel), width = columns.width(panel);
    const std::int64_t depth = plan.grid.channels;
    if (!plan.transposed) {
      pack_columns<S>([&](std::int64_t i) { return f + (k + i) * plan.columns + col; }, kc, padded, used, width, to);
    } else if (depth % Panel<T>::kGranule == 0) {
      // Column j of a tap: its row of the filter. One tap after the other.
      for (std::int64_t at = 0; at < kc;) {
        const std::int64_t tap = (k + at) / depth, from = (k + at) % depth;
        const std::int64_t count = depth - from < kc - at ? depth - from : kc - at;
        const S* base = f + tap_at(tap) + col * depth + from;
        pack_transposed<S>([=](std::int64_t j) { return base + j * depth; }, count, round_up(count, Panel<T>::kGranule),
                           used, width, to + at * width);
        at += count;
      }
    } else {
      // Pairs straddle taps: gather rows of k.
      S row[2][kCols] = {};
      pack_columns<S>(
          [&](std::int64_t i) {
            const std::int64_t tap = (k + i) / depth, from = (k + i) % depth;
            const S* base = f + tap_at(tap) + col * depth + from;
            for (std::int64_t j = 0; j < used; ++j) row[i % 2][j] = base[j * depth];
            return static_cast<const S*>(row[i % 2]);
          },
          kc, padded, used, width, to);
    }
  }
};

#if defined(__AVX512BF16__)
constexpr bool kMultipliesBf16 = true;
#else
constexpr bool kMultipliesBf16 = false;
#endif

void conv_plan(ConvPlan& plan, const ConvArgs& a, int threads) {
  plan.half = kMultipliesBf16 && (a.x_dtype == DType::BF16 || a.filter_dtype == DType::BF16);
  const std::int64_t rows = plan.grid.rows(), cols = plan.columns;
  const TaskGrid grid = plan.half ? make_grid<bf16>(1, rows, cols, threads) : make_grid<float>(1, rows, cols, threads);
  plan.row_blocks = grid.row_blocks;
  plan.row_size = grid.row_size;
  plan.col_blocks = grid.col_blocks;
  plan.col_size = grid.col_size;
  const std::int64_t k = plan.grid.depth(), n = plan.columns;
  plan.packed = static_cast<std::size_t>(plan.half ? packed_size<bf16>(k, n) * 2 : packed_size<float>(k, n) * 4);
  plan.column_bytes = static_cast<std::size_t>(columns_size(n)) * 4;
}

void conv_pack(const ConvArgs& a, const ConvPlan& plan, void* to, ThreadPool& pool) {
  if constexpr (kMultipliesBf16) {
    if (plan.half) return pack_all(ConvProblem<bf16>{a, plan, nullptr, {}}, 0, 1, static_cast<bf16*>(to), pool);
  }
  pack_all(ConvProblem<float>{a, plan, nullptr, {}}, 0, 1, static_cast<float*>(to), pool);
}

template <class T>
static void conv_as(const ConvArgs& a, const ConvPlan& plan, const void* packed, const Columns& columns,
                    ThreadPool& pool) {
  const ConvProblem<T> problem{a, plan, static_cast<const T*>(packed), columns};
  Driver(problem, {plan.row_blocks, plan.row_size, plan.col_blocks, plan.col_size}).run(pool);
}
void conv_compute(const ConvArgs& a, const ConvPlan& plan, const void* packed, float* room, ThreadPool& pool) {
  const Columns columns = make_columns(a.epilogue, plan.columns, room);
  if constexpr (kMultipliesBf16) {
    if (plan.half) return conv_as<bf16>(a, plan, packed, columns, pool);
  }
  conv_as<float>(a, plan, packed, columns, pool);
}

}  // namespace eq::EQ_ISA

#if EQ_ISA_BASE
namespace eq {

namespace {

/// Queues one grid. `use` tells apart the packed forms that a frozen filter keeps.
void launch_grid(CpuDevice& on, const OpInfo& info, const ConvArgs& args, ConvPlan plan, const Tensor& filter,
                 const FrozenForm::Key& use) {
  EQ_DISPATCH_MATRIX(conv_plan)(plan, args, on.pool().size());
  const auto pack = [&](const void* values, void* to) {
    ConvArgs from = args;
    from.filter = values;
    on.launch({"ConvPack", {filter.shape}, 0, static_cast<double>(filter.bytes() + plan.packed)},
              [from, plan, to](ThreadPool& pool) { EQ_DISPATCH_MATRIX(conv_pack)(from, plan, to, pool); });
  };
  Tensor scratch;
  const void* packed = nullptr;
  if (filter.buffer->frozen) {
    // The forward product's panels are those of the filter as a matrix.
    FrozenForm form{use, plan.packed, {plan.grid.depth(), plan.columns, 1, false, plan.half}, !plan.transposed};
    form.key[1] = plan.half;
    packed = frozen_panels(on, filter, form, pack);
  } else if (plan.row_blocks > 1) {
    scratch = on.empty(DType::Bool, {static_cast<std::int64_t>(plan.packed)});
    packed = scratch.data();
    pack(args.filter, scratch.data());
  }
  const Tensor columns = on.empty(DType::Bool, {static_cast<std::int64_t>(plan.column_bytes)});
  on.launch(info, [args, plan, packed, room = columns.data<float>()](ThreadPool& pool) {
    EQ_DISPATCH_MATRIX(conv_compute)(args, plan, packed, room, pool);
  });
}

}  // namespace

void conv2d_launch(Device& device, const OpInfo& info, const ConvArgs& args, const Tensor& filter) {
  const ConvGeometry& g = args.geometry;
  ConvPlan plan{};
  plan.grid = {g.batch,
               g.height,
               g.width,
               g.channels,
               forward_axis(g.out_height, g.filter_height, g.stride_height, g.dilation_height, g.top),
               forward_axis(g.out_width, g.filter_width, g.stride_width, g.dilation_width, g.left)};
  plan.columns = g.out_channels;
  plan.out_height = g.out_height;
  plan.out_width = g.out_width;
  launch_grid(cpu(device), info, args, plan, filter,
              {'c', 0, g.filter_height * g.filter_width, g.channels, g.out_channels});
}

void conv2d_grad_input_launch(Device& device, const OpInfo& info, const ConvArgs& args, const Tensor& filter) {
  const ConvGeometry& g = args.geometry;
  for (std::int64_t py = 0; py < g.stride_height; ++py) {
    for (std::int64_t px = 0; px < g.stride_width; ++px) {
      ConvPlan plan{};
      plan.grid = {g.batch,
                   g.out_height,
                   g.out_width,
                   g.out_channels,
                   transposed_axis(g.height, g.filter_height, g.stride_height, g.dilation_height, g.top, py),
                   transposed_axis(g.width, g.filter_width, g.stride_width, g.dilation_width, g.left, px)};
      if (plan.grid.rows() == 0) continue;
      plan.columns = g.channels;
      plan.out_height = g.height;
      plan.out_width = g.width;
      plan.transposed = true;
      const TapAxis &y = plan.grid.y, &x = plan.grid.x;
      OpInfo part = info;
      part.flops = 2.0 * static_cast<double>(plan.grid.rows()) * static_cast<double>(plan.grid.depth() * g.channels);
      // Grids that use the same taps in the same order share a packed form.
      launch_grid(cpu(device), part, args, plan, filter,
                  {'t', 0, g.filter_width, g.channels, g.out_channels, y.taps << 32 | x.taps,
                   y.filter_first << 32 | x.filter_first, y.filter_step * 65536 + x.filter_step});
    }
  }
}

}  // namespace eq
#endif
