// Host side of the sm_90a kernel: tensor maps and launch. See wgmma.h, tile_wgmma.cuh.
//
// Launch: 288 threads (two warpgroups that multiply, one warp that copies). Tiles of 128 x 128 in three stages of 32
// KB, two blocks on a multiprocessor; of 128 x 160 in five of 36 (B not along k: 40) KB, of 256 x 128 in four of 48 KB
// and of 256 x 160 in four of 52 (three of 56) KB, one block.
#include "kernels/gemm/core/tile_wgmma.cuh"

#include "kernels/gemm/core/wgmma.h"

namespace eq::tile {

namespace {

using Encode = decltype(&cuTensorMapEncodeTiled);

/// The driver's function, found through the runtime: the addon links no driver library.
Encode encoder() {
#if EQ_SIMT
  return cuTensorMapEncodeTiled;
#else
  static const Encode found = [] {
    void* function = nullptr;
    cudaDriverEntryPointQueryResult result{};
#if CUDART_VERSION >= 12050
    const cudaError_t status =
        cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &result);
#else
    const cudaError_t status = cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &function, cudaEnableDefault, &result);
#endif
    return status == cudaSuccess && result == cudaDriverEntryPointSuccess ? reinterpret_cast<Encode>(function)
                                                                          : nullptr;
  }();
  return found;
#endif
}

/// A tensor of bf16, innermost axis first; strides in elements, of all axes but the first. False if it cannot be
/// mapped.
struct MapAxes {
  int rank;
  std::int64_t sizes[4], strides[3];
  int box[4];
};
bool encode(CUtensorMap& map, const void* data, const MapAxes& axes) {
  cuuint64_t sizes[4] = {}, strides[3] = {};
  cuuint32_t box[4] = {}, steps[4] = {1, 1, 1, 1};
  for (int i = 0; i < axes.rank; ++i) {
    if (axes.sizes[i] < 1 || axes.sizes[i] >= std::int64_t{1} << 31) return false;
    sizes[i] = static_cast<cuuint64_t>(axes.sizes[i]);
    box[i] = static_cast<cuuint32_t>(axes.box[i]);
  }
  for (int i = 0; i + 1 < axes.rank; ++i) {
    if (axes.strides[i] % 8 != 0 || axes.strides[i] >= std::int64_t{1} << 38) return false;
    strides[i] = static_cast<cuuint64_t>(axes.strides[i]) * 2;
  }
  return encoder()(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, static_cast<cuuint32_t>(axes.rank), const_cast<void*>(data),
                   sizes, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                   CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

constexpr int kDepth = 64;

bool encode_b(CUtensorMap& map, const void* data, bool along_k, std::int64_t n, std::int64_t k, std::int64_t pitch,
              std::int64_t taps, int columns) {
  if (along_k) return encode(map, data, {3, {k, n, taps}, {pitch, n * pitch}, {kDepth, columns, 1}});
  return encode(map, data, {2, {n, k * taps}, {pitch}, {64, kDepth}});
}

unsigned* stuck_word = nullptr;

template <class Config>
void launch(Device& device, const OpInfo& info, const CUtensorMap& a, const CUtensorMap& b, WgmmaProblem& p) {
  p.grid.rows = static_cast<unsigned>((p.out.m + Config::kM - 1) / Config::kM);
  p.grid.columns = static_cast<unsigned>((p.out.n + Config::kN - 1) / Config::kN);
  p.grid.layers = 1;
  launch_kernel(device, info, wgmma_kernel<Config>,
                Launch{static_cast<unsigned>(p.grid.blocks()), 1, 1, Config::kThreads, Config::shared_bytes()}, a, b,
                p);
}

/// By the configuration for the tile; B is k-major or not.
template <bool kTransposed>
void launch_tile(Device& device, const OpInfo& info, const CUtensorMap& a, const CUtensorMap& b, WgmmaProblem& p,
                 const WgmmaTile& tile) {
  if (tile.rows == 128)
    tile.columns == 128 ? launch<WgmmaConfig<128, 128, kTransposed, 3, 2>>(device, info, a, b, p)
                        : launch<WgmmaConfig<128, 160, kTransposed, 5, 1>>(device, info, a, b, p);
  else
    tile.columns == 128 ? launch<WgmmaConfig<256, 128, kTransposed, 4, 1>>(device, info, a, b, p)
                        : launch<WgmmaConfig<256, 160, kTransposed, kTransposed ? 3 : 4, 1>>(device, info, a, b, p);
}

bool queue(Device& device, const OpInfo& info, const CUtensorMap& a, const CUtensorMap& b, WgmmaProblem& p,
           bool along_k, const WgmmaTile& tile) {
  p.stuck = stuck_word;
  if (!p.stuck) p.fault = fault_site(device, info, "a tensor copy did not arrive within two seconds");
  along_k ? launch_tile<false>(device, info, a, b, p, tile) : launch_tile<true>(device, info, a, b, p, tile);
  return true;
}

/// Whether sizes and storage are the kernel's.
bool suits(const Output& out, std::int64_t k) {
  constexpr std::int64_t kLimit = std::int64_t{1} << 31;
  return out.type == DType::BF16 && out.m < kLimit - 256 && out.n < kLimit - 256 && k >= 1 && k < kLimit &&
         (out.m + 127) / 128 * ((out.n + 127) / 128) < kLimit;
}

}  // namespace

bool wgmma_mappable() { return encoder() != nullptr; }

WgmmaWatch::WgmmaWatch(unsigned* word) { stuck_word = word; }
WgmmaWatch::~WgmmaWatch() { stuck_word = nullptr; }

bool wgmma_dense(Device& device, const OpInfo& info, const Gemm& g, const WgmmaTile& tile) {
  WgmmaProblem p;
  p.out = g.out;
  p.out.m = g.m;
  p.out.n = g.n;
  p.out.vectors = rows_fit(g.out, g.out.rows.pitch);
  p.low_rank = ready_low_rank(g.low_rank);
  if (g.type != DType::BF16 || !g.a.along_k || g.batches.rank != 0 || g.out.rows.spread || !suits(p.out, g.k))
    return false;
  p.source.steps = p.source.steps_per_tap = static_cast<int>((g.k + kDepth - 1) / kDepth);
  CUtensorMap a, b;
  if (!encode(a, g.a.data, {2, {g.k, g.m}, {g.a.pitch}, {kDepth, tile.rows}}) ||
      !encode_b(b, g.b.data, g.b.along_k, g.n, g.k, g.b.pitch, 1, tile.columns))
    return false;
  return queue(device, info, a, b, p, g.b.along_k, tile);
}

bool wgmma_image(Device& device, const OpInfo& info, const ImageProduct& c, const WgmmaTile& tile) {
  const TapGrid& grid = c.grid;
  const TapAxis &y = grid.y, &x = grid.x;
  constexpr std::int64_t kNear = 1 << 20;
  const auto small = [](const TapAxis& axis) {
    return axis.size < kNear && axis.origin < kNear && -axis.origin < kNear && axis.taps * axis.tap_step < kNear;
  };
  // A tile of output pixels in their order must be a box.
  const std::int64_t pixels = tile.rows, width = std::min(x.size, pixels),
                     height = std::min(y.size, pixels / std::max<std::int64_t>(1, width));
  const bool box = width > 0 && height > 0 && pixels % width == 0 && x.size % width == 0 &&
                   pixels / width % height == 0 && y.size % height == 0;
  WgmmaProblem p;
  p.out = c.out;
  const std::int64_t taps = y.taps * x.taps;
  if (!box || y.step != 1 || x.step != 1 || c.out.rows.spread || grid.channels % kDepth != 0 || !small(y) ||
      !small(x) || !suits(c.out, taps * grid.channels))
    return false;
  WgmmaSource& s = p.source;
  s.image = true;
  s.steps_per_tap = static_cast<int>(grid.channels / kDepth);
  s.steps = static_cast<int>(taps) * s.steps_per_tap;
  s.out_width = static_cast<int>(x.size);
  s.out_height = static_cast<int>(y.size);
  s.taps_x = static_cast<int>(x.taps);
  s.origin_y = static_cast<int>(y.origin);
  s.origin_x = static_cast<int>(x.origin);
  s.tap_step_y = static_cast<int>(y.tap_step);
  s.tap_step_x = static_cast<int>(x.tap_step);
  s.filter_width = static_cast<int>(c.filter_width);
  s.first_y = static_cast<int>(y.filter_first);
  s.first_x = static_cast<int>(x.filter_first);
  s.step_y = static_cast<int>(y.filter_step);
  s.step_x = static_cast<int>(x.filter_step);
  const std::int64_t line = grid.width * grid.channels;
  CUtensorMap a, b;
  if (!encode(
          a, c.image,
          {4,
           {grid.channels, grid.width, grid.height, grid.batch},
           {grid.channels, line, line * grid.height},
           {kDepth, static_cast<int>(width), static_cast<int>(height), static_cast<int>(pixels / (width * height))}}) ||
      !encode_b(b, c.filter, c.along_k, c.n, grid.channels, c.along_k ? grid.channels : c.n, c.filter_taps,
                tile.columns))
    return false;
  return queue(device, info, a, b, p, c.along_k, tile);
}

}  // namespace eq::tile
