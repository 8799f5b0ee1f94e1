// Host side of the sm_90a kernel (tile_wgmma.cuh). It is offered only where EQUIPOISE_CUDA_WGMMA=1 asks for it, on a
// device of compute capability 9.0, and after its results have agreed with the mma.sync kernel's in this process.
#pragma once

#include "kernels/conv/core/taps.h"
#include "kernels/gemm/core/tile_gemm.h"

namespace eq::tile {

/// Whether the kernel has been asked for and has passed its check on this device.
bool wgmma_usable(Device& device);
/// What `equipoise doctor` says of it.
std::string wgmma_state();

/// Queue the product with tiles of `columns` (128 or 160) columns; false where it is not of the kind that the kernel
/// computes: bf16 operands and result, A along k, no batch; images with channels in multiples of 64 and stride 1.
bool wgmma_dense(Device& device, const OpInfo& info, const Gemm& g, int columns);

struct ImageProduct {
  TapGrid grid;
  const void* image;
  /// [taps of the filter, n, channels] where along_k, else [taps of the filter, channels, n].
  const void* filter;
  bool along_k;
  std::int64_t n, filter_width, filter_taps;
  Output out;  ///< complete
};
bool wgmma_image(Device& device, const OpInfo& info, const ImageProduct& p, int columns);

}  // namespace eq::tile
