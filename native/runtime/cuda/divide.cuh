// Division of non-negative 32-bit numbers by a divisor known at launch: a multiply-high, an add and a shift
// (Granlund and Montgomery, "Division by Invariant Integers using Multiplication", 1994).
#pragma once

#include <cstdint>

#include "runtime/cuda/kernel.cuh"

namespace eq {

/// Exact for numerators below 2^31 and divisors in 1 .. 2^31 - 1.
struct Divisor {
  std::uint32_t value = 1, factor = 0, shift = 0;

  Divisor() = default;
  explicit Divisor(std::int64_t d) : value(static_cast<std::uint32_t>(d)) {
    while ((std::uint64_t{1} << shift) < value) ++shift;
    factor = static_cast<std::uint32_t>(((std::uint64_t{1} << 32) * ((std::uint64_t{1} << shift) - value)) / value + 1);
  }
  __device__ std::uint32_t divide(std::uint32_t n) const {
#if EQ_SIMT
    const auto high = static_cast<std::uint32_t>((static_cast<std::uint64_t>(n) * factor) >> 32);
#else
    const std::uint32_t high = __umulhi(n, factor);
#endif
    return (high + n) >> shift;
  }
  /// n becomes n / d; the remainder is returned.
  __device__ std::uint32_t split(std::uint32_t& n) const {
    const std::uint32_t q = divide(n), r = n - q * value;
    n = q;
    return r;
  }
};

}  // namespace eq
