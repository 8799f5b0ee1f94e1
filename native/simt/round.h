// How tensor cores round.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

namespace eq::simt {

/// To f32 by cutting; what is too large becomes infinite.
inline float cut(double x) {
  const float f = static_cast<float>(x);
  const bool grew = std::fabs(static_cast<double>(f)) > std::fabs(x) && std::fabs(f) < INFINITY;
  // One less in magnitude is one less as a number, whatever the sign.
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(f) - static_cast<std::uint32_t>(grew));
}

}  // namespace eq::simt
