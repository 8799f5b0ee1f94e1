// Loop nests on the device: from a flat index to the offset of each operand. Divisions by sizes known at launch are
// multiplications where every index fits 31 bits (divide.cuh); larger tensors divide in 64 bits.
#pragma once

#include "kernels/strides.h"
#include "runtime/cuda/divide.cuh"

namespace eq {

/// Out of line: for tensors of more than 2^31 elements only.
__device__ __noinline__ inline std::int64_t divide_wide(std::int64_t n, std::int64_t divisor) {
  return static_cast<std::int64_t>(static_cast<unsigned long long>(n) / static_cast<unsigned long long>(divisor));
}

/// Division of indices below a limit by a positive number.
class IndexDivisor {
 public:
  IndexDivisor() = default;
  IndexDivisor(std::int64_t divisor, std::int64_t limit) : value_(divisor) {
    wide_ = limit > std::int64_t{1} << 31 || divisor >= std::int64_t{1} << 31;
    if (!wide_) narrow_ = Divisor(divisor);
  }

  /// The quotient of n; `n` becomes the remainder.
  __device__ std::int64_t divide(std::int64_t& n) const {
    const std::int64_t quotient = wide_ ? divide_wide(n, value_) : narrow_.divide(static_cast<std::uint32_t>(n));
    n -= quotient * value_;
    return quotient;
  }

 private:
  std::int64_t value_ = 1;
  Divisor narrow_;
  bool wide_ = false;
};

/// `Loops` of at most kRank loops and kOperands operands, as a kernel parameter.
template <int kOperands, int kRank>
struct Nest {
  int rank = 0;
  IndexDivisor size[kRank];
  std::int64_t step[kOperands][kRank] = {};

  Nest() = default;
  explicit Nest(const Loops& loops) : rank(loops.rank) {
    const std::int64_t count = loops.count();
    for (int d = 0; d < rank; ++d) {
      size[d] = IndexDivisor(loops.size[d], count);
      for (int k = 0; k < kOperands; ++k) step[k][d] = loops.step[k][d];
    }
  }

  /// Offsets of the operands, in elements, at flat index i. The outermost loop needs no division.
  __device__ void offsets(std::int64_t i, std::int64_t (&out)[kOperands]) const {
    for (int k = 0; k < kOperands; ++k) out[k] = 0;
    for (int d = rank - 1; d > 0; --d) {
      std::int64_t at = i;
      i = size[d].divide(at);
#pragma unroll
      for (int k = 0; k < kOperands; ++k) out[k] += at * step[k][d];
    }
    if (rank > 0)
#pragma unroll
      for (int k = 0; k < kOperands; ++k) out[k] += i * step[k][0];
  }
};

/// The items of images [batch, height, width, items a pixel], and where item u is.
struct Pixels {
  std::int64_t count;
  IndexDivisor items, width, height;

  Pixels(std::int64_t batch, std::int64_t rows, std::int64_t columns, std::int64_t per_pixel)
      : count(batch * rows * columns * per_pixel) {
    if (count == 0) return;
    items = IndexDivisor(per_pixel, count);
    width = IndexDivisor(columns, count);
    height = IndexDivisor(rows, count);
  }
  __device__ void place(std::int64_t u, std::int64_t& batch, std::int64_t& y, std::int64_t& x,
                        std::int64_t& item) const {
    item = u;
    x = items.divide(item);
    y = width.divide(x);
    batch = height.divide(y);
  }
};

}  // namespace eq
