// Host side of the sm_90a kernel (tile_wgmma.cuh). It is offered only on a device of compute capability 9.0, and after
// its results have agreed there with the mma.sync kernel's.
#pragma once

#include "kernels/conv/core/taps.h"
#include "kernels/gemm/core/tile_gemm.h"

namespace eq::tile {

/// Whether the kernel has passed its check on this device (cuda_wgmma_check.cu).
bool wgmma_usable(Device& device);
/// What `equipoise doctor` says of it.
std::string wgmma_state();

/// A tile of the output, and the name of the way (choice.h) that computes products by it.
struct WgmmaTile {
  const char* name;
  int rows, columns;
};
/// Widths of 160 divide the UNet's channels; tall tiles ask less of the second-level cache, small ones waste less.
inline constexpr WgmmaTile kWgmmaTiles[] = {
    {"wgmma 128x128", 128, 128}, {"wgmma 128x160", 128, 160}, {"wgmma 256x128", 256, 128}, {"wgmma 256x160", 256, 160}};

/// Queue the product by a tile of kWgmmaTiles; false where it is not of the kind that the kernel computes: bf16
/// operands and result, A along k, no batch; images with channels in multiples of 64, stride 1, and sides that whole
/// tiles cover.
bool wgmma_dense(Device& device, const OpInfo& info, const Gemm& g, const WgmmaTile& tile);

struct ImageProduct {
  TapGrid grid;
  const void* image;
  /// [taps of the filter, n, channels] where along_k, else [taps of the filter, channels, n].
  const void* filter;
  bool along_k;
  std::int64_t n, filter_width, filter_taps;
  Output out;  ///< complete
};
bool wgmma_image(Device& device, const OpInfo& info, const ImageProduct& p, const WgmmaTile& tile);

/// Whether the driver makes tensor maps.
bool wgmma_mappable();
/// While it lives, copies that do not arrive set a word in device memory instead of raising a fault.
struct WgmmaWatch {
  explicit WgmmaWatch(unsigned* word);
  ~WgmmaWatch();
};

}  // namespace eq::tile
