// Host side of the sm_90a kernel: tensor maps, launch, and the check before its first use. See wgmma.h, tile_wgmma.cuh.
//
// Launch: 288 threads (two warpgroups that multiply, one warp that copies); tiles of 128 x 128 in three stages of 32
// KB, two blocks on a multiprocessor, or of 128 x 160 in five stages of 36 or 40 KB, one block.
#include "kernels/gemm/core/tile_wgmma.cuh"

#include "kernels/gemm/core/wgmma.h"

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <vector>

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
    const cudaError_t status =
        cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &result);
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

constexpr int kDepth = 64, kM = 128;

bool encode_b(CUtensorMap& map, const void* data, bool along_k, std::int64_t n, std::int64_t k, std::int64_t pitch,
              std::int64_t taps, int columns) {
  if (along_k) return encode(map, data, {3, {k, n, taps}, {pitch, n * pitch}, {kDepth, columns, 1}});
  return encode(map, data, {2, {n, k * taps}, {pitch}, {64, kDepth}});
}

/// While the check runs, where a stuck copy is told.
unsigned* stuck_word = nullptr;
struct StuckWord {
  explicit StuckWord(unsigned* word) { stuck_word = word; }
  ~StuckWord() { stuck_word = nullptr; }
};

template <class Config>
void launch(Device& device, const OpInfo& info, const CUtensorMap& a, const CUtensorMap& b, WgmmaProblem& p) {
  p.grid.rows = static_cast<unsigned>((p.out.m + kM - 1) / kM);
  p.grid.columns = static_cast<unsigned>((p.out.n + Config::kN - 1) / Config::kN);
  p.grid.layers = 1;
  launch_kernel(device, info, wgmma_kernel<Config>,
                Launch{static_cast<unsigned>(p.grid.blocks()), 1, 1, Config::kThreads, Config::shared_bytes()}, a, b,
                p);
}

bool queue(Device& device, const OpInfo& info, const CUtensorMap& a, const CUtensorMap& b, WgmmaProblem& p,
           bool along_k, int columns) {
  p.stuck = stuck_word;
  if (!p.stuck) p.fault = fault_site(device, info, "a tensor copy did not arrive within two seconds");
  if (columns == 160)
    along_k ? launch<WgmmaConfig<160, false, 5, 1>>(device, info, a, b, p)
            : launch<WgmmaConfig<160, true, 5, 1>>(device, info, a, b, p);
  else
    along_k ? launch<WgmmaConfig<128, false, 3, 2>>(device, info, a, b, p)
            : launch<WgmmaConfig<128, true, 3, 2>>(device, info, a, b, p);
  return true;
}

/// Whether sizes and storage are the kernel's.
bool suits(const Output& out, std::int64_t k) {
  constexpr std::int64_t kLimit = std::int64_t{1} << 31;
  return out.type == DType::BF16 && out.m < kLimit - kM && out.n < kLimit - 256 && k >= 1 && k < kLimit &&
         (out.m + kM - 1) / kM * ((out.n + 127) / 128) < kLimit;
}

bool dense(Device& device, const OpInfo& info, const Gemm& g, int columns) {
  WgmmaProblem p;
  p.out = g.out;
  p.out.m = g.m;
  p.out.n = g.n;
  p.out.vectors = rows_fit(g.out, g.out.rows.pitch);
  p.low_rank = g.low_rank;
  if (g.type != DType::BF16 || !g.a.along_k || g.batches.rank != 0 || g.out.rows.spread || !suits(p.out, g.k))
    return false;
  p.source.steps = p.source.steps_per_tap = static_cast<int>((g.k + kDepth - 1) / kDepth);
  CUtensorMap a, b;
  if (!encode(a, g.a.data, {2, {g.k, g.m}, {g.a.pitch}, {kDepth, kM}}) ||
      !encode_b(b, g.b.data, g.b.along_k, g.n, g.k, g.b.pitch, 1, columns))
    return false;
  return queue(device, info, a, b, p, g.b.along_k, columns);
}

bool image(Device& device, const OpInfo& info, const ImageProduct& c, int columns) {
  const TapGrid& grid = c.grid;
  const TapAxis &y = grid.y, &x = grid.x;
  constexpr std::int64_t kNear = 1 << 20;
  const auto small = [](const TapAxis& axis) {
    return axis.size < kNear && axis.origin < kNear && -axis.origin < kNear && axis.taps * axis.tap_step < kNear;
  };
  // A tile of 128 output pixels in their order must be a box.
  const std::int64_t width = std::min<std::int64_t>(x.size, kM),
                     height = std::min(y.size, kM / std::max<std::int64_t>(1, width));
  const bool box = width > 0 && height > 0 && kM % width == 0 && x.size % width == 0 && kM / width % height == 0 &&
                   y.size % height == 0;
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
  if (!encode(a, c.image,
              {4,
               {grid.channels, grid.width, grid.height, grid.batch},
               {grid.channels, line, line * grid.height},
               {kDepth, static_cast<int>(width), static_cast<int>(height), static_cast<int>(kM / (width * height))}}) ||
      !encode_b(b, c.filter, c.along_k, c.n, grid.channels, c.along_k ? grid.channels : c.n, c.filter_taps, columns))
    return false;
  return queue(device, info, a, b, p, c.along_k, columns);
}

enum class State { Unknown, Off, WrongDevice, NoDriver, Failed, Passed };
State state = State::Unknown;

/// Numbers in (-1, 1) that bf16 holds.
std::vector<bf16> numbers(std::int64_t n, std::uint32_t seed) {
  std::vector<bf16> v(static_cast<std::size_t>(n));
  for (bf16& x : v) {
    seed = seed * 1664525u + 1013904223u;
    x = bf16(static_cast<float>(static_cast<int>(seed >> 24) - 128) / 128.0f);
  }
  return v;
}
Tensor on_device(Device& device, const std::vector<bf16>& values) {
  const Tensor t = device.empty(DType::BF16, {static_cast<std::int64_t>(values.size())});
  device.upload(t, values.data(), DType::BF16);
  return t;
}
/// Copies a tensor to the host, waiting for it; bf16 as f32.
void fetch(Device& device, const Tensor& t, void* to) {
  std::string fault;
  device.read(t, to, [&fault](std::string message) { fault = std::move(message); });
  device.synchronize();
  if (!fault.empty()) throw std::runtime_error(fault);
}
/// Whether the two results agree to bf16's precision and hold no NaN.
bool agree(Device& device, const Tensor& a, const Tensor& b) {
  const auto n = static_cast<std::size_t>(a.numel());
  std::vector<float> x(n), y(n);
  fetch(device, a, x.data());
  fetch(device, b, y.data());
  double error = 0, size = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const double d = static_cast<double>(x[i]) - static_cast<double>(y[i]);
    error += d * d;
    size += static_cast<double>(y[i]) * static_cast<double>(y[i]);
  }
  return size > 0 && error <= 1e-5 * size;
}

/// Products with ragged edges, a low-rank term, and images moved by taps, in every configuration.
bool check(Device& device) {
  const Tensor word = device.empty(DType::I32, {1});
  fill_bytes(device, word.data(), 0, 4);
  const StuckWord told(word.data<unsigned>());
  const OpInfo info("WgmmaCheck", {});
  constexpr std::int64_t kRows = 3 * 128 + 40, kColumns = 328, kInner = 424, kRank = 24;
  const Tensor a = on_device(device, numbers(kRows * kInner, 1)), b = on_device(device, numbers(kColumns * kInner, 2));
  const Tensor low_a = on_device(device, numbers(kRows * kRank, 3)),
               low_b = on_device(device, numbers(kColumns * kRank, 4));
  const Tensor expected = device.empty(DType::BF16, {kRows, kColumns}), got = device.empty(DType::BF16, expected.shape);
  bool good = true;
  for (const bool along_k : {true, false}) {
    Gemm g{};
    g.type = DType::BF16;
    g.m = kRows, g.n = kColumns, g.k = kInner;
    g.a = {a.data(), true, kInner};
    g.b = {b.data(), along_k, along_k ? kInner : kColumns};
    g.low_rank = {low_a.data(), low_b.data(), DType::BF16, DType::BF16, kRank, 0.5f};
    g.out.c = expected.data();
    g.out.type = DType::BF16;
    g.out.rows.pitch = kColumns;
    gemm_built_in(device, info, g);
    g.out.c = got.data();
    for (const int columns : {128, 160}) {
      fill_bytes(device, got.data(), 0xff, got.bytes());
      good = good && dense(device, info, g, columns) && agree(device, got, expected);
    }
  }
  // One tap, nine taps: the same image as the dense product of its patches is not at hand, so a 3 x 3 filter whose only
  // weight is one tap must give the moved image's product.
  constexpr std::int64_t kSide = 16, kChannels = 128, kBatch = 3, kOut = 192, kPixels = kBatch * kSide * kSide;
  const std::vector<bf16> picture = numbers(kPixels * kChannels, 5), weights = numbers(kChannels * kOut, 6);
  const Tensor image_values = on_device(device, picture);
  const Tensor y = device.empty(DType::BF16, {kPixels, kOut}), z = device.empty(DType::BF16, y.shape);
  for (const int tap : {0, 4, 5}) {
    std::vector<bf16> moved(picture.size()), filter(static_cast<std::size_t>(9 * kChannels * kOut)),
        turned(filter.size());
    for (std::int64_t i = 0; i < kPixels; ++i) {
      const std::int64_t v = i / kSide % kSide + tap / 3 - 1, u = i % kSide + tap % 3 - 1;
      const bool inside = v >= 0 && v < kSide && u >= 0 && u < kSide;
      for (std::int64_t c = 0; inside && c < kChannels; ++c)
        moved[static_cast<std::size_t>(i * kChannels + c)] =
            picture[static_cast<std::size_t>(((i / (kSide * kSide) * kSide + v) * kSide + u) * kChannels + c)];
    }
    for (std::int64_t c = 0; c < kChannels; ++c)
      for (std::int64_t o = 0; o < kOut; ++o) {
        const bf16 w = weights[static_cast<std::size_t>(c * kOut + o)];
        filter[static_cast<std::size_t>((tap * kChannels + c) * kOut + o)] = w;
        turned[static_cast<std::size_t>((tap * kOut + o) * kChannels + c)] = w;
      }
    const Tensor patches = on_device(device, moved), plain = on_device(device, weights);
    Gemm g{};
    g.type = DType::BF16;
    g.m = kPixels, g.n = kOut, g.k = kChannels;
    g.a = {patches.data(), true, kChannels};
    g.b = {plain.data(), false, kOut};
    g.out.c = y.data();
    g.out.type = DType::BF16;
    g.out.rows.pitch = kOut;
    gemm_built_in(device, info, g);
    for (const bool along_k : {true, false}) {
      const Tensor values = on_device(device, along_k ? turned : filter);
      ImageProduct p{
          {kBatch, kSide, kSide, kChannels, forward_axis(kSide, 3, 1, 1, 1), forward_axis(kSide, 3, 1, 1, 1)},
          image_values.data(),
          values.data(),
          along_k,
          kOut,
          3,
          9,
          g.out};
      p.out.m = kPixels;
      p.out.n = kOut;
      p.out.c = z.data();
      p.out.vectors = true;
      for (const int columns : {128, 160}) {
        fill_bytes(device, z.data(), 0xff, z.bytes());
        good = good && image(device, info, p, columns) && agree(device, z, y);
      }
    }
  }
  unsigned stuck = 1;
  fetch(device, word, &stuck);
  return good && stuck == 0;
}

}  // namespace

bool wgmma_usable(Device& device) {
  if (state == State::Unknown && !recording(device)) {
    const char* wanted = std::getenv("EQUIPOISE_CUDA_WGMMA");
    if (!wanted || std::strcmp(wanted, "1") != 0)
      state = State::Off;
    else if (compute_capability(device) != 90)
      state = State::WrongDevice;
    else if (!encoder())
      state = State::NoDriver;
    else
      state = check(device) ? State::Passed : State::Failed;
  }
  return state == State::Passed;
}

std::string wgmma_state() {
  switch (state) {
    case State::Unknown:
      return "not asked for yet";
    case State::Off:
      return "off (EQUIPOISE_CUDA_WGMMA=1 switches it on)";
    case State::WrongDevice:
      return "needs compute capability 9.0";
    case State::NoDriver:
      return "this driver has no tensor maps";
    case State::Failed:
      return "failed its check: not used";
    case State::Passed:
      return "on";
  }
  return "";
}

bool wgmma_dense(Device& device, const OpInfo& info, const Gemm& g, int columns) {
  return wgmma_usable(device) && dense(device, info, g, columns);
}
bool wgmma_image(Device& device, const OpInfo& info, const ImageProduct& p, int columns) {
  return wgmma_usable(device) && image(device, info, p, columns);
}

}  // namespace eq::tile
