// What the launchers of the convolutions share: operands in the storage and with the number of channels that the tile
// kernels read.
#pragma once

#include "kernels/conv/core/geometry.h"
#include "kernels/gemm/core/tile_gemm.h"

namespace eq::tile {

/// Tensor values ready to be read: where they lie, or a copy with channels padded to a multiple of eight.
struct Ready {
  const void* data;
  std::int64_t channels;
  Tensor copy;
};

inline DType multiply_type(DType a, DType b) { return a == DType::BF16 || b == DType::BF16 ? DType::BF16 : DType::F32; }

/// Pixels of `channels` values.
inline Ready ready_pixels(Device& device, const OpInfo& info, const void* data, DType stored, DType wanted,
                          std::int64_t pixels, std::int64_t channels) {
  if (lines_fit(data, stored, wanted, channels)) return {data, channels, {}};
  const std::int64_t padded = padded_length(channels);
  Tensor copy = pack_lines(device, info, {data, stored, {pixels, 1, 1}, {channels, 0, 0}, 1, channels, padded}, wanted);
  return {copy.data(), padded, copy};
}

/// The product of a one-pixel window without stride and padding: a plain matrix product over pixels.
inline bool plain_product(const ConvGeometry& g) {
  return g.filter_height == 1 && g.filter_width == 1 && g.stride_height == 1 && g.stride_width == 1 && g.top == 0 &&
         g.left == 0 && g.out_height == g.height && g.out_width == g.width;
}

}  // namespace eq::tile
