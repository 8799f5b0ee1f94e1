// Philox 4x32-10 (Salmon et al., SC 2011): random numbers as a function of (seed, stream, index) alone. The mapping
// is specified at the top of packages/core/src/philox.ts:
//
//   key = (seed low, seed high);  block = floor(index / 4);  counter = (block low, block high, stream low, stream high)
//   uniform = floor(w / 2^8) 2^-24;  normal: pairs (w0, w1), (w2, w3) by Box-Muller, a in (0, 1], b in [0, 1)
//
// Uniform numbers equal the specification's bit for bit. Normal numbers are evaluated in double precision and rounded
// once, so that they too agree on every engine, but for a last bit now and then (about one number in 10^8).
// Bytes: 4 n written. Work: 10 rounds of two 32 x 32 -> 64 bit products per four numbers.
#pragma once

#include "runtime/device.h"

namespace eq {

struct PhiloxArgs {
  float* out;
  std::int64_t n;
  /// Stream index of out[0].
  std::uint64_t offset;
  std::uint32_t seed[2], stream[2];
  bool normal;
};
void philox_launch(Device& device, const OpInfo& info, const PhiloxArgs& args);

inline Tensor philox(Device& device, const Shape& shape, const std::uint32_t (&seed)[2],
                     const std::uint32_t (&stream)[2], std::int64_t offset, bool normal) {
  check_range(offset >= 0, "Philox: offset must not be negative, got ", offset);
  Tensor out = device.empty(DType::F32, shape);
  philox_launch(device,
                {normal ? "RandomNormal" : "RandomUniform",
                 {shape},
                 30.0 * static_cast<double>(out.numel()),
                 static_cast<double>(out.bytes())},
                {out.data<float>(),
                 out.numel(),
                 static_cast<std::uint64_t>(offset),
                 {seed[0], seed[1]},
                 {stream[0], stream[1]},
                 normal});
  return out;
}

}  // namespace eq
