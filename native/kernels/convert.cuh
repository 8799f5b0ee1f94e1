// Number conversions with JavaScript's meaning, on the device.
#pragma once

#include "runtime/cuda/kernel.cuh"

namespace eq {

/// What storing a number in an Int32Array does: NaN and infinities become 0, the rest truncates modulo 2^32.
__device__ inline int to_int32(double x) {
  if (x > -2147483649.0 && x < 2147483648.0) return static_cast<int>(x);
  const auto bits = static_cast<unsigned long long>(__double_as_longlong(x));
  const int exponent = static_cast<int>(bits >> 52 & 0x7ffu) - 1023;
  // Here |x| >= 2^31: a shift left from bit 52 on, by 32 or more nothing is left; NaN and infinity have 1024.
  if (exponent >= 84) return 0;
  const unsigned long long mantissa = (bits & 0xfffffffffffffull) | 0x10000000000000ull;
  const auto magnitude =
      static_cast<unsigned>(exponent < 52 ? mantissa >> (52 - exponent) : mantissa << (exponent - 52));
  return static_cast<int>(x < 0 ? 0u - magnitude : magnitude);
}

}  // namespace eq
