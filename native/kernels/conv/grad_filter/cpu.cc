#include "kernels/conv/core/patches.h"
#include "kernels/gemm/core/dispatch.h"
#include "kernels/gemm/core/driver.h"
#include "op.h"
#include "runtime/cpu/device.h"

EQ_DECLARE_MATRIX(std::size_t conv_grad_filter_room(const ConvGradFilterArgs& a))
EQ_DECLARE_MATRIX(void conv_grad_filter_compute(const ConvGradFilterArgs& a, float* partial, ThreadPool& pool))

namespace eq::EQ_ISA {

/// Computes df^T [O, R S I]: then the image's patches are the wide operand, whose panels are cheap to pack.
template <class T>
struct GradFilterProblem {
  using Element = T;
  static constexpr bool kMajor = true;

  const ConvGradFilterArgs& args;
  TapGrid grid;
  float* partial;
  std::int64_t part_size, parts;

  GradFilterProblem(const ConvGradFilterArgs& a, float* room) : args(a), partial(room) {
    const ConvGeometry& g = a.geometry;
    grid = {g.batch,
            g.height,
            g.width,
            g.channels,
            forward_axis(g.out_height, g.filter_height, g.stride_height, g.dilation_height, g.top),
            forward_axis(g.out_width, g.filter_width, g.stride_width, g.dilation_width, g.left)};
    // Fixed by the shape. Large filters give enough tasks without parts.
    const std::int64_t pixels = grid.rows(), most = rows() * cols() > (1 << 20) ? 1 : 16;
    const std::int64_t wanted = pixels / 1024 < 1 ? 1 : pixels / 1024 > most ? most : pixels / 1024;
    part_size = round_up(div_up(pixels, wanted), Panel<float>::kDepth);
    parts = pixels > 0 ? div_up(pixels, part_size) : 1;
  }

  std::int64_t batches() const { return parts; }
  std::int64_t rows() const { return args.geometry.out_channels; }
  std::int64_t cols() const { return grid.depth(); }
  std::int64_t row_stride() const { return cols(); }
  int segments() const { return 1; }
  std::int64_t depth(int) const { return part_size < grid.rows() ? part_size : grid.rows(); }
  const T* packed_b(int, std::int64_t) const { return nullptr; }

  void pack_a(int, std::int64_t part, std::int64_t row, std::int64_t n, std::int64_t k, std::int64_t kc,
              std::int64_t padded, T* to) const {
    if (args.dy_dtype == DType::BF16)
      pack_dy(static_cast<const bf16*>(args.dy), part, row, n, k, kc, padded, to);
    else
      pack_dy(static_cast<const float*>(args.dy), part, row, n, k, kc, padded, to);
  }
  void pack_b(int, std::int64_t part, std::int64_t panel, std::int64_t k, std::int64_t kc, std::int64_t padded,
              T* to) const {
    if (args.x_dtype == DType::BF16)
      pack_x(static_cast<const bf16*>(args.x), part, panel, k, kc, padded, to);
    else
      pack_x(static_cast<const float*>(args.x), part, panel, k, kc, padded, to);
  }
  float* direct(std::int64_t part, std::int64_t row, std::int64_t col) const {
    return partial + (part * rows() + row) * cols() + col;
  }
  void finish(std::int64_t part, std::int64_t row, const SumTile& tile) const {
    float* to = direct(part, row, tile.col);
    if (to == tile.sums) return;
    for (std::int64_t r = 0; r < tile.rows; ++r) copy_run(tile.sums + r * tile.stride, to + r * cols(), tile.n);
  }

  /// Adds the parts in order and transposes: df[c, o] = sum over parts of partial[part][o][c].
  void reduce(ThreadPool& pool) const {
    const std::int64_t m = rows(), n = cols(), tiles = div_up(n, kLanes);
    pool.parallel_for(tiles, div_up(8192, m * kLanes), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t t = begin; t < end; ++t)
        for (std::int64_t o = 0; o < m; o += kLanes) reduce_tile(t * kLanes, o);
    });
  }

 private:
  std::int64_t first(std::int64_t part, std::int64_t k) const {
    const std::int64_t at = part * part_size + k;
    return at < grid.rows() ? at : grid.rows();
  }
  std::int64_t present(std::int64_t part, std::int64_t k, std::int64_t kc) const {
    const std::int64_t left = grid.rows() - first(part, k);
    return left < kc ? left : kc;
  }
  template <class S>
  void pack_dy(const S* dy, std::int64_t part, std::int64_t row, std::int64_t n, std::int64_t k, std::int64_t kc,
               std::int64_t padded, T* to) const {
    const S* base = dy + first(part, k) * rows() + row;
    pack_k_major<S>([&](std::int64_t i) { return base + i * rows(); }, present(part, k, kc), padded, n, to);
  }
  template <class S>
  void pack_x(const S* x, std::int64_t part, std::int64_t panel, std::int64_t k, std::int64_t kc, std::int64_t padded,
              T* to) const {
    const ColumnPanels columns{cols()};
    pack_patch_columns(grid, x, panel * kCols, columns.used(panel), columns.width(panel), first(part, k),
                       present(part, k, kc), padded, to);
  }
  void reduce_tile(std::int64_t col, std::int64_t o) const {
    const std::int64_t m = rows(), n = cols();
    const int width = static_cast<int>(n - col < kLanes ? n - col : kLanes);
    const int height = static_cast<int>(m - o < kLanes ? m - o : kLanes);
    vf tile[kLanes];
    for (int i = 0; i < kLanes; ++i) {
      tile[i] = vf{};
      for (std::int64_t p = 0; i < height && p < parts; ++p) {
        const float* from = direct(p, o + i, col);
        tile[i] += width == kLanes ? load(from) : read_part(from, width);
      }
    }
    transpose_units(tile);
    for (int c = 0; c < width; ++c) {
      float* to = args.df + (col + c) * m + o;
      if (height == kLanes)
        store(to, tile[c]);
      else
        write_part(to, tile[c], height);
    }
  }
};

std::size_t conv_grad_filter_room(const ConvGradFilterArgs& a) {
  const GradFilterProblem<float> problem(a, nullptr);
  return static_cast<std::size_t>(problem.parts * problem.rows() * problem.cols()) * sizeof(float);
}

template <class T>
static void grad_filter_as(const ConvGradFilterArgs& a, float* partial, ThreadPool& pool) {
  const GradFilterProblem<T> problem(a, partial);
  Driver(problem, make_grid<T>(problem.batches(), problem.rows(), problem.cols(), pool.size())).run(pool);
  problem.reduce(pool);
}
void conv_grad_filter_compute(const ConvGradFilterArgs& a, float* partial, ThreadPool& pool) {
#if defined(__AVX512BF16__)
  if (a.x_dtype == DType::BF16 || a.dy_dtype == DType::BF16) return grad_filter_as<bf16>(a, partial, pool);
#endif
  grad_filter_as<float>(a, partial, pool);
}

}  // namespace eq::EQ_ISA

#if EQ_ISA_BASE
namespace eq {

void conv2d_grad_filter_launch(Device& device, const OpInfo& info, const ConvGradFilterArgs& args) {
  const std::size_t bytes = EQ_DISPATCH_MATRIX(conv_grad_filter_room)(args);
  const Tensor partial = device.empty(DType::Bool, {static_cast<std::int64_t>(bytes)});
  cpu(device).launch(info, [args, room = partial.data<float>()](ThreadPool& pool) {
    EQ_DISPATCH_MATRIX(conv_grad_filter_compute)(args, room, pool);
  });
}

}  // namespace eq
#endif
