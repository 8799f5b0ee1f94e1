// What the norm kernels share.
#pragma once

#include "kernels/activation/unary/op.h"

namespace eq {

/// Rows of a fixed block of about 16 K elements (64 KB of f32, in second-level cache): the unit of work and of
/// summation, so that results do not depend on the number of threads.
inline std::int64_t norm_block_rows(std::int64_t channels) {
  return channels <= 0 ? 1 : std::max<std::int64_t>(1, (std::int64_t{1} << 14) / channels);
}

inline void check_vector(const char* op, const char* name, const Tensor& t, std::int64_t size) {
  check_type(t.dtype == DType::F32, op, ": ", name, " must be stored as f32, got ", dtype_name(t.dtype));
  check_range(t.numel() == size, op, ": ", name, " must have ", size, " elements, got ", t.shape.str());
}

}  // namespace eq
