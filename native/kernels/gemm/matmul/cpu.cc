#include "kernels/gemm/core/dispatch.h"
#include "kernels/gemm/core/driver.h"
#include "kernels/gemm/core/epilogue.h"
#include "kernels/gemm/core/frozen.h"
#include "kernels/gemm/core/pack.h"
#include "op.h"
#include "runtime/cpu/device.h"

namespace eq {

/// Working memory of one product, in bytes, and how it is cut; made by the instruction set that computes it.
struct MatMulPlan {
  std::int64_t row_blocks, row_size, col_blocks, col_size;
  std::int64_t parts;  ///< consecutive parts of k summed apart, then added in order
  std::size_t packed, packed2, columns, partial;
  bool half;  ///< panels hold bf16
};
struct MatMulRoom {
  void *packed, *packed2;  ///< null: tasks pack B themselves
  float *columns, *partial;
};

}  // namespace eq

EQ_DECLARE_MATRIX(MatMulPlan matmul_plan(const MatMulArgs& a, bool frozen, int threads))
EQ_DECLARE_MATRIX(void matmul_pack(const MatMulArgs& a, bool half, void* to, ThreadPool& pool))
EQ_DECLARE_MATRIX(void matmul_compute(const MatMulArgs& a, const MatMulPlan& plan, const MatMulRoom& room,
                                      ThreadPool& pool))
EQ_DECLARE_ISA(void matmul_i32_compute(const MatMulArgs& a, ThreadPool& pool))

namespace eq::EQ_ISA {

/// A stored matrix, transposed or not: element (i, j) of the operand at data[i * stride + j], or [j * stride + i].
struct Operand {
  const void* data;
  DType dtype;
  bool transposed;
  std::int64_t stride;
  std::int64_t offset = 0;  // elements before the operand's first
};

template <class F>
EQ_INLINE void with_values(const Operand& m, F f) {
  if (m.dtype == DType::BF16)
    f(static_cast<const bf16*>(m.data) + m.offset);
  else
    f(static_cast<const float*>(m.data) + m.offset);
}

/// Panel of rows row.. of an operand whose rows run along k.
template <class T>
static void pack_rows(const Operand& m, std::int64_t row, std::int64_t n, std::int64_t k, std::int64_t kc,
                      std::int64_t padded, T* to) {
  with_values(m, [&](const auto* x) {
    for (std::int64_t i = 0; i < n; ++i) {
      copy_run(x + (row + i) * m.stride + k, to + i * Panel<T>::kStride, kc);
      zero_run(to + i * Panel<T>::kStride + kc, padded - kc);
    }
  });
}

template <class T>
static void pack_b_panel(const Operand& m, const ColumnPanels& columns, std::int64_t panel, std::int64_t k,
                         std::int64_t kc, std::int64_t padded, T* to) {
  const std::int64_t col = panel * kCols, used = columns.used(panel), width = columns.width(panel);
  with_values(m, [&](const auto* x) {
    using S = std::remove_cv_t<std::remove_pointer_t<decltype(x)>>;
    if (m.transposed)
      pack_transposed<S>([=, &m](std::int64_t j) { return x + (col + j) * m.stride + k; }, kc, padded, used, width, to);
    else
      pack_columns<S>([=, &m](std::int64_t i) { return x + (k + i) * m.stride + col; }, kc, padded, used, width, to);
  });
}

static Operand operand_b(const MatMulArgs& a, std::int64_t matrix) {
  return {a.b, a.b_dtype, a.b_transposed, a.b_transposed ? a.k : a.n, matrix * a.k * a.n};
}

template <class T, bool KMajorA>
struct Product {
  using Element = T;
  static constexpr bool kMajor = KMajorA;

  const MatMulArgs& args;
  const T *packed, *packed2;
  Columns column_vectors;

  std::int64_t batches() const { return args.batches; }
  std::int64_t rows() const { return args.m; }
  std::int64_t cols() const { return args.n; }
  std::int64_t row_stride() const { return args.n; }
  int segments() const { return args.a2 ? 2 : 1; }
  std::int64_t depth(int s) const { return s ? args.k2 : args.k; }

  void pack_a(int s, std::int64_t batch, std::int64_t row, std::int64_t n, std::int64_t k, std::int64_t kc,
              std::int64_t padded, T* to) const {
    if (s) {
      pack_low_rank({args.a2, args.a2_dtype, false, args.k2}, row, n, k, kc, padded, to);
      return;
    }
    const std::int64_t matrix = args.batch.matrix(args.batch.a, batch);
    const Operand m{args.a, args.a_dtype, KMajorA, KMajorA ? args.m : args.k, matrix * args.m * args.k};
    if constexpr (KMajorA) {
      with_values(m, [&](const auto* x) {
        using S = std::remove_cv_t<std::remove_pointer_t<decltype(x)>>;
        pack_k_major<S>([=, &m](std::int64_t i) { return x + (k + i) * m.stride + row; }, kc, padded, n, to);
      });
    } else {
      pack_rows(m, row, n, k, kc, padded, to);
    }
  }
  void pack_b(int s, std::int64_t batch, std::int64_t panel, std::int64_t k, std::int64_t kc, std::int64_t padded,
              T* to) const {
    pack_b_matrix(s, args.batch.matrix(args.batch.b, batch), panel, k, kc, padded, to);
  }
  void pack_b_matrix(int s, std::int64_t matrix, std::int64_t panel, std::int64_t k, std::int64_t kc,
                     std::int64_t padded, T* to) const {
    const Operand m = s ? Operand{args.b2, args.b2_dtype, true, args.k2} : operand_b(args, matrix);
    pack_b_panel(m, ColumnPanels{args.n}, panel, k, kc, padded, to);
  }
  const T* packed_b(int s, std::int64_t batch) const {
    if (s) return packed2;
    return packed ? packed + args.batch.matrix(args.batch.b, batch) * packed_size<T>(args.k, args.n) : nullptr;
  }
  float* direct(std::int64_t batch, std::int64_t row, std::int64_t col) const {
    return args.c_dtype == DType::F32 ? static_cast<float*>(args.c) + (batch * args.m + row) * args.n + col : nullptr;
  }
  void finish(std::int64_t batch, std::int64_t row, const SumTile& tile) const {
    const std::int64_t first = (batch * args.m + row) * args.n + tile.col;
    finish_tile(args.epilogue, column_vectors, tile, args.c, args.c_dtype,
                RowOffsets::equidistant(first, args.n, tile.rows));
  }

 private:
  /// The factor of the low-rank term goes into its rows.
  void pack_low_rank(const Operand& m, std::int64_t row, std::int64_t n, std::int64_t k, std::int64_t kc,
                     std::int64_t padded, T* to) const {
    with_values(m, [&](const auto* x) {
      for (std::int64_t i = 0; i < n; ++i)
        for (std::int64_t d = 0; d < padded; ++d) {
          const float v = d < kc ? static_cast<float>(x[(row + i) * m.stride + k + d]) * args.scale2 : 0.0f;
          constexpr int kPair = Panel<T>::kPair;
          const std::int64_t at = KMajorA && !Panel<T>::kTiled ? (d / kPair * Panel<T>::kRows + i) * kPair + d % kPair
                                                               : i * Panel<T>::kStride + d;
          to[at] = T(v);
        }
    });
  }
};

/// The same product with k in consecutive parts, each a product of its own into `partial`.
template <class T, bool KMajorA>
struct SplitProduct : Product<T, KMajorA> {
  float* partial;
  std::int64_t part_size;
  std::int64_t parts;

  using Base = Product<T, KMajorA>;
  SplitProduct(const MatMulArgs& a, float* room, std::int64_t count)
      : Base{a, nullptr, nullptr, {}},
        partial(room),
        part_size(round_up(div_up(a.k, count), Panel<T>::kDepth)),
        parts(div_up(a.k, part_size)) {}

  std::int64_t batches() const { return parts; }
  // The last part may be shorter: its missing steps are zeros.
  std::int64_t depth(int) const { return part_size; }
  void pack_a(int, std::int64_t part, std::int64_t row, std::int64_t n, std::int64_t k, std::int64_t kc,
              std::int64_t padded, T* to) const {
    Base::pack_a(0, 0, row, n, first(part, k), present(part, k, kc), padded, to);
  }
  void pack_b(int, std::int64_t part, std::int64_t panel, std::int64_t k, std::int64_t kc, std::int64_t padded,
              T* to) const {
    Base::pack_b_matrix(0, 0, panel, first(part, k), present(part, k, kc), padded, to);
  }
  const T* packed_b(int, std::int64_t) const { return nullptr; }
  float* direct(std::int64_t part, std::int64_t row, std::int64_t col) const {
    return partial + (part * this->args.m + row) * this->args.n + col;
  }
  void finish(std::int64_t part, std::int64_t row, const SumTile& tile) const {
    float* to = direct(part, row, tile.col);
    if (to == tile.sums) return;
    for (std::int64_t r = 0; r < tile.rows; ++r) copy_run(tile.sums + r * tile.stride, to + r * this->args.n, tile.n);
  }
  /// Adds the parts in order and finishes the rows.
  void reduce(const Columns& columns, ThreadPool& pool) const {
    const MatMulArgs& a = this->args;
    pool.parallel_for(a.m, div_up(8192, a.n), [&](std::int64_t begin, std::int64_t end) {
      float sums[kLanes];
      for (std::int64_t row = begin; row < end; ++row) {
        for (std::int64_t col = 0; col < a.n; col += kLanes) {
          const std::int64_t n = a.n - col < kLanes ? a.n - col : kLanes;
          vf sum{};
          for (std::int64_t p = 0; p < parts; ++p) sum += read_part_or_all(direct(p, row, col), n);
          store(sums, sum);
          finish_tile(a.epilogue, columns, {sums, kLanes, 1, col, n}, a.c, a.c_dtype, {{row * a.n + col}});
        }
      }
    });
  }

 private:
  static vf read_part_or_all(const float* p, std::int64_t n) { return n == kLanes ? load(p) : read_part(p, n); }
  std::int64_t first(std::int64_t part, std::int64_t k) const {
    const std::int64_t at = part * part_size + k;
    return at < this->args.k ? at : this->args.k;
  }
  std::int64_t present(std::int64_t part, std::int64_t k, std::int64_t kc) const {
    const std::int64_t left = this->args.k - first(part, k);
    return left < kc ? left : kc;
  }
};

#if defined(__AVX512BF16__)
constexpr bool kMultipliesBf16 = true;
#else
constexpr bool kMultipliesBf16 = false;
#endif

/// Parts of k: fixed by the shape, so that sums do not depend on the number of threads. Small outputs of long sums
/// (gradients of weights) would otherwise leave threads without work, and pack A and B once per task. A frozen B is
/// packed once and for all.
static std::int64_t count_parts(const MatMulArgs& a) {
  if (a.batches != 1 || a.a2 || a.m * a.n > 512 * 512) return 1;
  const std::int64_t parts = a.k / 1024;
  return parts < 2 ? 1 : parts > 16 ? 16 : parts;
}

MatMulPlan matmul_plan(const MatMulArgs& a, bool frozen, int threads) {
  MatMulPlan p{};
  p.half = kMultipliesBf16 && (a.a_dtype == DType::BF16 || a.b_dtype == DType::BF16);
  p.parts = frozen ? 1 : count_parts(a);
  const std::int64_t products = p.parts > 1 ? p.parts : a.batches;
  const TaskGrid grid =
      p.half ? make_grid<bf16>(products, a.m, a.n, threads) : make_grid<float>(products, a.m, a.n, threads);
  p.row_blocks = grid.row_blocks;
  p.row_size = grid.row_size;
  p.col_blocks = grid.col_blocks;
  p.col_size = grid.col_size;
  const auto bytes = [&](std::int64_t k) {
    return static_cast<std::size_t>(p.half ? packed_size<bf16>(k, a.n) * 2 : packed_size<float>(k, a.n) * 4);
  };
  p.packed = bytes(a.k) * static_cast<std::size_t>(a.b_matrices);
  p.packed2 = bytes(a.k2);
  p.columns = static_cast<std::size_t>(columns_size(a.n)) * 4;
  p.partial = p.parts > 1 ? static_cast<std::size_t>(p.parts * a.m * a.n) * 4 : 0;
  return p;
}

template <class T>
static void pack_as(const MatMulArgs& a, void* to, ThreadPool& pool) {
  pack_all(Product<T, false>{a, nullptr, nullptr, {}}, 0, a.b_matrices, static_cast<T*>(to), pool);
}
void matmul_pack(const MatMulArgs& a, bool half, void* to, ThreadPool& pool) {
  if constexpr (kMultipliesBf16) {
    if (half) return pack_as<bf16>(a, to, pool);
  }
  pack_as<float>(a, to, pool);
}

template <class T, bool KMajorA>
static void compute_as(const MatMulArgs& a, const MatMulPlan& plan, const MatMulRoom& room, ThreadPool& pool) {
  const Columns columns = make_columns(a.epilogue, a.n, room.columns);
  const TaskGrid grid{plan.row_blocks, plan.row_size, plan.col_blocks, plan.col_size};
  if (plan.parts > 1) {
    const SplitProduct<T, KMajorA> split(a, room.partial, plan.parts);
    Driver(split, grid).run(pool);
    return split.reduce(columns, pool);
  }
  const Product<T, KMajorA> product{a, static_cast<const T*>(room.packed), static_cast<const T*>(room.packed2),
                                    columns};
  if (room.packed2) pack_all(product, 1, 1, static_cast<T*>(room.packed2), pool);
  Driver(product, grid).run(pool);
}

void matmul_compute(const MatMulArgs& a, const MatMulPlan& plan, const MatMulRoom& room, ThreadPool& pool) {
  if constexpr (kMultipliesBf16) {
    if (plan.half) {
      return a.a_transposed ? compute_as<bf16, true>(a, plan, room, pool)
                            : compute_as<bf16, false>(a, plan, room, pool);
    }
  }
  a.a_transposed ? compute_as<float, true>(a, plan, room, pool) : compute_as<float, false>(a, plan, room, pool);
}

#if !EQ_MATRIX_ONLY
void matmul_i32_compute(const MatMulArgs& a, ThreadPool& pool) {
  // Unsigned arithmetic wraps where signed overflow would be undefined.
  pool.parallel_for(a.batches * a.m, 8, [&a](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t batch = i / a.m, row = i % a.m;
      const auto* x = static_cast<const std::uint32_t*>(a.a) + a.batch.matrix(a.batch.a, batch) * a.m * a.k;
      const auto* y = static_cast<const std::uint32_t*>(a.b) + a.batch.matrix(a.batch.b, batch) * a.k * a.n;
      auto* c = static_cast<std::uint32_t*>(a.c) + i * a.n;
      for (std::int64_t j = 0; j < a.n; ++j) c[j] = 0;
      for (std::int64_t k = 0; k < a.k; ++k) {
        const std::uint32_t v = a.a_transposed ? x[k * a.m + row] : x[row * a.k + k];
        if (a.b_transposed)
          for (std::int64_t j = 0; j < a.n; ++j) c[j] += v * y[j * a.k + k];
        else
          for (std::int64_t j = 0; j < a.n; ++j) c[j] += v * y[k * a.n + j];
      }
    }
  });
}
#endif

}  // namespace eq::EQ_ISA

#if EQ_ISA_BASE
namespace eq {

void matmul_launch(Device& device, const OpInfo& info, const MatMulArgs& args, const Tensor& b) {
  CpuDevice& on = cpu(device);
  const bool frozen = b.buffer->frozen;
  const MatMulPlan plan = EQ_DISPATCH_MATRIX(matmul_plan)(args, frozen, on.pool().size());
  MatMulRoom room{};
  // Dropped after the launch: stream-ordered memory stays untouched until the kernel has run.
  const auto scratch = [&](std::size_t bytes) { return device.empty(DType::Bool, {static_cast<std::int64_t>(bytes)}); };
  const auto pack = [&](const void* values, void* to) {
    MatMulArgs from = args;
    from.b = values;
    on.launch(
        {"MatMulPack", {b.shape}, 0, static_cast<double>(b.bytes() + plan.packed)},
        [from, half = plan.half, to](ThreadPool& pool) { EQ_DISPATCH_MATRIX(matmul_pack)(from, half, to, pool); });
  };
  Tensor packed, packed2, partial;
  if (frozen) {
    const FrozenForm form{{'m', plan.half, args.b_transposed, args.k, args.n, args.b_matrices},
                          plan.packed,
                          {args.k, args.n, args.b_matrices, args.b_transposed, plan.half},
                          true};
    room.packed = frozen_panels(device, b, form, pack);
  } else if (plan.row_blocks > 1 && plan.parts == 1) {
    packed = scratch(plan.packed);
    room.packed = packed.data();
    pack(args.b, room.packed);
  }
  const Tensor columns = scratch(plan.columns);
  room.columns = columns.data<float>();
  if (args.a2) {
    packed2 = scratch(plan.packed2);
    room.packed2 = packed2.data();
  }
  if (plan.partial) {
    partial = scratch(plan.partial);
    room.partial = partial.data<float>();
  }
  on.launch(info, [args, plan, room](ThreadPool& pool) { EQ_DISPATCH_MATRIX(matmul_compute)(args, plan, room, pool); });
}

void matmul_i32_launch(Device& device, const OpInfo& info, const MatMulArgs& args) {
  cpu(device).launch(info, [args](ThreadPool& pool) { EQ_DISPATCH(matmul_i32_compute)(args, pool); });
}

}  // namespace eq
#endif
