// Launchers of the matrix product on CUDA: operands that the tile kernels cannot read as they lie (another storage,
// rows that do not start at multiples of 16 bytes) are copied first; frozen weights keep their copy.
//
// bf16 operands (or one of the two): tensor cores, kernels/gemm/core/tile_mma.cuh; f32: tile_ffma.cuh. int32: a 16 x 16
// tile of sums per block of 256 threads, 2 KB of shared memory; it serves indices and masks, not speed.
#include "kernels/gemm/core/tile_gemm.h"
#include "kernels/gemm/matmul/op.h"

namespace eq {

namespace {

constexpr int kSide = 16;

/// What the int32 kernel needs of MatMulArgs.
struct IntegerProduct {
  const unsigned *a, *b;
  unsigned* c;
  std::int64_t m, n, k;
  std::int64_t a_row, a_step, b_step, b_column;  ///< strides of A by row and step, of B by step and column
  unsigned row_tiles, column_tiles;
  tile::Batches batches;
};

__global__ void __launch_bounds__(kSide* kSide) integer_kernel(const IntegerProduct p) {
  __shared__ unsigned a[kSide][kSide + 1], b[kSide][kSide + 1];
  const int x = static_cast<int>(threadIdx.x) % kSide, y = static_cast<int>(threadIdx.x) / kSide;
  const unsigned tiles = p.row_tiles * p.column_tiles, layer = blockIdx.x / tiles, within = blockIdx.x - layer * tiles;
  const std::int64_t row = std::int64_t{within / p.column_tiles} * kSide + y;
  const std::int64_t first = std::int64_t{within % p.column_tiles} * kSide, column = first + x;
  const tile::LayerOffsets at = tile::layer_offsets(p.batches, layer);
  unsigned sum = 0;
  for (std::int64_t k = 0; k < p.k; k += kSide) {
    a[y][x] = row < p.m && k + x < p.k ? p.a[at.a + row * p.a_row + (k + x) * p.a_step] : 0;
    b[y][x] = k + y < p.k && column < p.n ? p.b[at.b + (k + y) * p.b_step + column * p.b_column] : 0;
    __syncthreads();
#pragma unroll
    for (int i = 0; i < kSide; ++i) sum += a[y][i] * b[i][x];
    __syncthreads();
  }
  if (row < p.m && column < p.n) p.c[at.c + row * p.n + column] = sum;
}

/// Element offsets of the batch. Axes that continue each other in all three are merged.
tile::Batches element_batches(const BatchStrides& s, std::int64_t a_size, std::int64_t b_size, std::int64_t c_size) {
  tile::Batches out;
  std::int64_t c_step = c_size;
  // From the last axis on; turned round at the end.
  for (int i = s.rank - 1; i >= 0; --i) {
    const std::int64_t a = s.a[i] * a_size, b = s.b[i] * b_size, dim = s.dims[i];
    if (dim != 1) {
      const int last = out.rank - 1;
      const auto follows = [&](std::int64_t stride, const std::int64_t* known) {
        return stride == known[last] * out.dims[last];
      };
      if (last >= 0 && follows(a, out.a) && follows(b, out.b)) {
        out.dims[last] *= static_cast<unsigned>(dim);
      } else {
        out.dims[out.rank] = static_cast<unsigned>(dim);
        out.a[out.rank] = a;
        out.b[out.rank] = b;
        out.c[out.rank++] = c_step;
      }
    }
    c_step *= dim;
  }
  std::reverse(out.dims, out.dims + out.rank);
  std::reverse(out.a, out.a + out.rank);
  std::reverse(out.b, out.b + out.rank);
  std::reverse(out.c, out.c + out.rank);
  return out;
}

/// Matrices that the batch strides reach.
std::int64_t reached(const BatchStrides& s, const std::int64_t (&strides)[Shape::kMaxRank]) {
  std::int64_t last = 0;
  for (int i = 0; i < s.rank; ++i) last += (s.dims[i] - 1) * strides[i];
  return last + 1;
}

}  // namespace

void matmul_launch(Device& device, const OpInfo& info, const MatMulArgs& args, const Tensor& b) {
  const DType type = args.a_dtype == DType::BF16 || args.b_dtype == DType::BF16 ? DType::BF16 : DType::F32;
  tile::Gemm g{};
  g.type = type;
  g.m = args.m;
  g.n = args.n;
  g.k = args.k;
  // Lines of A are its rows unless it is stored transposed; B's are its columns where it is.
  const std::int64_t a_lines = args.a_transposed ? args.k : args.m, a_length = args.a_transposed ? args.m : args.k;
  const std::int64_t b_lines = args.b_transposed ? args.n : args.k, b_length = args.b_transposed ? args.k : args.n;
  g.a = {args.a, !args.a_transposed, a_length};
  g.b = {args.b, args.b_transposed, b_length};
  Tensor a_copy, b_copy;
  if (args.k > 0 && !tile::lines_fit(args.a, args.a_dtype, type, a_length)) {
    const std::int64_t matrices = reached(args.batch, args.batch.a);
    g.a.pitch = tile::padded_length(a_length);
    a_copy = tile::pack_lines(
        device, info,
        {args.a, args.a_dtype, {matrices, a_lines, 1}, {a_lines * a_length, a_length, 0}, a_lines, a_length, g.a.pitch},
        type);
    g.a.data = a_copy.data();
  }
  if (args.k > 0 && !tile::lines_fit(args.b, args.b_dtype, type, b_length)) {
    g.b.pitch = tile::padded_length(b_length);
    b_copy = tile::pack_weight(device, info,
                               {args.b,
                                args.b_dtype,
                                {args.b_matrices, b_lines, 1},
                                {b_lines * b_length, b_length, 0},
                                b_lines,
                                b_length,
                                g.b.pitch},
                               type, b, 'm');
    g.b.data = b_copy.data();
  }
  if (args.batches > 1)
    g.batches = element_batches(args.batch, a_lines * g.a.pitch, b_lines * g.b.pitch, args.m * args.n);
  if (args.a2) g.low_rank = {args.a2, args.b2, args.a2_dtype, args.b2_dtype, static_cast<int>(args.k2), args.scale2};
  g.out.c = args.c;
  g.out.type = args.c_dtype;
  g.out.rows.pitch = args.n;
  g.out.epilogue = args.epilogue;
  tile::gemm(device, info, g);
}

void matmul_i32_launch(Device& device, const OpInfo& info, const MatMulArgs& args) {
  const auto tiles = [](std::int64_t n) { return (n + kSide - 1) / kSide; };
  const std::int64_t blocks = tiles(args.m) * tiles(args.n) * args.batches;
  check_range(
      tiles(args.m) < std::int64_t{1} << 31 && tiles(args.n) < std::int64_t{1} << 31 &&
          args.batches < std::int64_t{1} << 31 &&
          static_cast<double>(tiles(args.m)) * static_cast<double>(tiles(args.n)) * static_cast<double>(args.batches) <
              0x1p31,
      info.name, ": more than 2^31 tiles of the result");
  const IntegerProduct p{static_cast<const unsigned*>(args.a),
                         static_cast<const unsigned*>(args.b),
                         static_cast<unsigned*>(args.c),
                         args.m,
                         args.n,
                         args.k,
                         args.a_transposed ? 1 : args.k,
                         args.a_transposed ? args.m : 1,
                         args.b_transposed ? 1 : args.n,
                         args.b_transposed ? args.k : 1,
                         static_cast<unsigned>(tiles(args.m)),
                         static_cast<unsigned>(tiles(args.n)),
                         element_batches(args.batch, args.m * args.k, args.k * args.n, args.m * args.n)};
  launch_kernel(device, info, integer_kernel, Launch{static_cast<unsigned>(blocks), 1, 1, kSide * kSide}, p);
}

}  // namespace eq
