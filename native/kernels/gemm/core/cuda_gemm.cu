// Host side of the tile kernels (tile_gemm.h): choice of the tile, and the kernels around them.
//
// pack_kernel: one thread per 16-byte chunk of the copy; bytes read once, written once. add_parts_kernel: one thread
// per eight outputs; parts * m n 4 bytes read. Both are memory-bound, 256 threads a block.
#include <algorithm>
#include <type_traits>

#include "kernels/gemm/core/blas.h"
#include "kernels/gemm/core/choice.h"
#include "kernels/gemm/core/tile_launch.cuh"
#include "kernels/gemm/core/wgmma.h"

namespace eq::tile {

EQ_DENSE_PROBLEM(extern, float, true, true)
EQ_DENSE_PROBLEM(extern, float, true, false)
EQ_DENSE_PROBLEM(extern, float, false, true)
EQ_DENSE_PROBLEM(extern, float, false, false)
EQ_DENSE_PROBLEM(extern, bf16, true, true)
EQ_DENSE_PROBLEM(extern, bf16, true, false)
EQ_DENSE_PROBLEM(extern, bf16, false, true)
EQ_DENSE_PROBLEM(extern, bf16, false, false)

namespace {

constexpr int kThreads = 256;

template <class T>
__global__ void __launch_bounds__(kThreads) pack_kernel(const PackArgs a, T* to, std::int64_t chunks) {
  constexpr int kSize = kChunk<T>;
  const std::int64_t per_line = a.padded / kSize;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; i < chunks;
       i += std::int64_t{gridDim.x} * kThreads) {
    const std::int64_t line = i / per_line, at = (i - line * per_line) * kSize;
    const std::int64_t rest = line / a.dims[2], z = line - rest * a.dims[2], x = rest / a.dims[1],
                       y = rest - x * a.dims[1];
    const std::int64_t from = x * a.strides[0] + y * a.strides[1] + z * a.strides[2] + at * a.step;
    float v[kSize];
#pragma unroll
    for (int j = 0; j < kSize; ++j)
      v[j] = y < a.present && at + j < a.length ? load_float(a.from, a.from_type, from + j * a.step) : 0.0f;
    store_vector<kSize>(to + i * kSize, v);
  }
}

__global__ void __launch_bounds__(kThreads)
    add_parts_kernel(const float* partial, unsigned parts, const Output out, std::int64_t groups) {
  const std::int64_t per_row = (out.n + 7) / 8, size = out.m * out.n;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; i < groups;
       i += std::int64_t{gridDim.x} * kThreads) {
    const std::int64_t row = i / per_row, column = (i - row * per_row) * 8;
    const int count = out.n - column >= 8 ? 8 : static_cast<int>(out.n - column);
    float v[8] = {};
    for (unsigned part = 0; part < parts; ++part)
      add_row(1.0f, partial + part * size + row * out.n + column, count, out.n % 8 == 0, v);
    finish(out, column_values(out, column), out.rows.at(row) + column, count, v);
  }
}

/// Copies kept with a frozen weight. Its values stay as well: they serve whoever reads the tensor.
struct PackedCopies final : DerivedForm {
  struct Copy {
    int use;
    DType type;
    PackArgs args;
    Tensor values;
  };
  std::vector<Copy> copies;
  void restore(Buffer&) override {}
  void settle(Buffer&) override {}
};

bool same_form(const PackArgs& a, const PackArgs& b) {
  return std::equal(a.dims, a.dims + 3, b.dims) && std::equal(a.strides, a.strides + 3, b.strides) &&
         a.present == b.present && a.length == b.length && a.padded == b.padded && a.step == b.step;
}

/// Relative cost of a tiling: rounds of blocks over the multiprocessors times a tile's work over its efficiency.
double tiling_cost(std::int64_t blocks, int processors, int m, int n, double efficiency) {
  return static_cast<double>((blocks + processors - 1) / processors) * m * n / efficiency;
}

}  // namespace

Tensor pack_lines(Device& device, const OpInfo& info, const PackArgs& args, DType to) {
  const Tensor out = device.empty(to, {args.dims[0] * args.dims[1] * args.dims[2], args.padded});
  const auto pack = [&](auto zero) {
    using T = decltype(zero);
    const std::int64_t chunks = out.numel() / kChunk<T>;
    launch_kernel(device, info, pack_kernel<T>, Launch{grid_for(device, chunks, kThreads), 1, 1, kThreads}, args,
                  out.data<T>(), chunks);
  };
  with_float_type(to, pack);
  return out;
}

Tensor pack_weight(Device& device, const OpInfo& info, const PackArgs& args, DType to, const Tensor& weight, int use) {
  if (!weight.buffer->frozen) return pack_lines(device, info, args, to);
  auto& slot = weight.buffer->derived;
  if (!slot) slot = std::make_unique<PackedCopies>();
  auto& copies = static_cast<PackedCopies&>(*slot).copies;
  for (const auto& copy : copies)
    if (copy.use == use && copy.type == to && same_form(copy.args, args)) return copy.values;
  // A recorded launch fills its copy only when it is run again: not one to keep.
  if (recording(device)) return pack_lines(device, info, args, to);
  copies.push_back({use, to, args, pack_lines(device, info, args, to)});
  return copies.back().values;
}

void add_parts(Device& device, const OpInfo& info, const float* partial, unsigned parts, const Output& out) {
  const std::int64_t groups = out.m * ((out.n + 7) / 8);
  launch_kernel(device, info, add_parts_kernel, Launch{grid_for(device, groups, kThreads), 1, 1, kThreads}, partial,
                parts, out, groups);
}

Tiling choose_tiling(Device& device, const char* op, const Shape3& s) {
  const int processors = multiprocessors(device);
  const auto tiles = [&](int m, int n) {
    Grid grid;
    const std::int64_t rows = (s.m + m - 1) / m, columns = (s.n + n - 1) / n;
    constexpr std::int64_t kMost = (std::int64_t{1} << 31) - 1;
    check_range(rows <= kMost && columns <= kMost && s.layers <= kMost && rows <= kMost / columns &&
                    rows * columns <= kMost / s.layers,
                op, ": a product of [", s.m, ",", s.k, "] and [", s.k, ",", s.n, "], ", s.layers,
                " times, has more than 2^31 tiles");
    grid.rows = static_cast<unsigned>(rows);
    grid.columns = static_cast<unsigned>(columns);
    grid.layers = static_cast<unsigned>(s.layers);
    return grid;
  };
  Tiling t{Kind::Ffma, {}};
  if (s.half) {
    // The large tile keeps the tensor cores busier; the small one wastes less at the edges and fills more processors.
    const Grid large = tiles(LargeMma::kM, LargeMma::kN), small = tiles(SmallMma::kM, SmallMma::kN);
    const bool wide = !s.keep_f32 && tiling_cost(large.blocks(), processors, LargeMma::kM, LargeMma::kN, 0.85) <=
                                         tiling_cost(small.blocks(), processors, SmallMma::kM, SmallMma::kN, 0.55);
    t = {wide ? Kind::LargeMma : Kind::SmallMma, wide ? large : small};
  } else {
    t.grid = tiles(Ffma::kM, Ffma::kN);
  }
  // Long sums of few tiles (gradients of weights) are cut into parts, one after the other, of at least 256 steps.
  const std::int64_t wanted =
      std::min<std::int64_t>({2 * processors / std::max<std::int64_t>(1, t.grid.blocks()), s.k / 256, 64});
  if (s.splittable && wanted >= 2) {
    if (s.half && t.kind == Kind::LargeMma) t = {Kind::SmallMma, tiles(SmallMma::kM, SmallMma::kN)};
    t.grid.parts = true;
    t.grid.part_size = ((s.k + wanted - 1) / wanted + 63) / 64 * 64;
    t.grid.layers = static_cast<unsigned>((s.k + t.grid.part_size - 1) / t.grid.part_size);
    check_range(t.grid.blocks() < std::int64_t{1} << 31, op, ": too many tiles");
  }
  return t;
}

void gemm_built_in(Device& device, const OpInfo& info, const Gemm& g) {
  const auto run = [&](auto zero, auto along_a, auto along_b) {
    using T = decltype(zero);
    using A = Dense<T, along_a()>;
    using B = Dense<T, along_b()>;
    Problem<A, B> p;
    p.a = {static_cast<const T*>(g.a.data), along_a() ? g.m : g.k, along_a() ? g.k : g.m, g.a.pitch};
    p.b = {static_cast<const T*>(g.b.data), along_b() ? g.n : g.k, along_b() ? g.k : g.n, g.b.pitch};
    p.k = g.k;
    p.batches = g.batches;
    p.low_rank = ready_low_rank(g.low_rank);
    p.out = g.out;
    p.out.m = g.m;
    p.out.n = g.n;
    p.out.vectors = rows_fit(g.out, g.out.rows.pitch);
    for (int i = 0; i < g.batches.rank; ++i) p.out.vectors = p.out.vectors && g.batches.c[i] % 8 == 0;
    launch_problem(device, info, p);
  };
  const auto with_layouts = [&](auto zero) {
    if (g.a.along_k)
      g.b.along_k ? run(zero, std::true_type{}, std::true_type{}) : run(zero, std::true_type{}, std::false_type{});
    else
      g.b.along_k ? run(zero, std::false_type{}, std::true_type{}) : run(zero, std::false_type{}, std::false_type{});
  };
  with_float_type(g.type, with_layouts);
}

namespace {

/// What the speed of a product depends on, in words.
std::string describe(const Gemm& g) {
  const EpilogueArgs& e = g.out.epilogue;
  std::int64_t layers = 1;
  for (int i = 0; i < g.batches.rank; ++i) layers *= g.batches.dims[i];
  return concat(dtype_name(g.type), g.a.along_k ? "" : "^T", " [", g.m, ",", g.k, "] x [", g.k, ",", g.n, "]",
                g.b.along_k ? "^T" : "", layers > 1 ? concat(" times ", layers) : "",
                g.low_rank.k > 0 ? concat(" rank ", g.low_rank.k) : "", e.trivial() ? "" : " with epilogue", " to ",
                dtype_name(g.out.type));
}

}  // namespace

void gemm(Device& device, const OpInfo& info, const Gemm& g) {
  const bool large =
      worth_choosing(2.0 * static_cast<double>(g.m) * static_cast<double>(g.n) * static_cast<double>(g.k));
  const bool wgmma = large && g.type == DType::BF16 && wgmma_usable(device), blas = large && blas_usable(device);
  if (!wgmma && !blas) return gemm_built_in(device, info, g);
  std::vector<Way> ways{{"built-in", [&] { return gemm_built_in(device, info, g), true; }}};
  if (wgmma)
    for (const WgmmaTile& tile : kWgmmaTiles)
      ways.push_back({tile.name, [&] { return wgmma_dense(device, info, g, tile); }});
  if (blas) ways.push_back({"cuBLASLt", [&] { return blas_product(device, info, g); }});
  run_fastest(device, info, describe(g), ways);
}

}  // namespace eq::tile
