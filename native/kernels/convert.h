// Number conversions with JavaScript's meaning. Include it in cpu.cc files only.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/isa.h"

namespace eq::EQ_ISA {

/// What storing a number in an Int32Array does: NaN and infinities become 0, the rest truncates modulo 2^32.
[[maybe_unused]] static std::int32_t to_int32(double x) {
  if (x > -2147483649.0 && x < 2147483648.0) return static_cast<std::int32_t>(x);
  if (!(x - x == 0)) return 0;
  const double wrapped = std::fmod(std::trunc(x), 4294967296.0);
  return static_cast<std::int32_t>(static_cast<std::uint32_t>(static_cast<std::int64_t>(wrapped)));
}

}  // namespace eq::EQ_ISA
