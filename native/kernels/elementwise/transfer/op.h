// Transfer:  y_i = x_i between two encodings of numbers, on the thread that calls: what crosses between the host and
// the device. f16, which no tensor stores, widens here; f32 -> bf16 rounds to nearest even. Bytes n * (size of x +
// size of y).
#pragma once

#include <cstdint>

#include "runtime/dtype.h"

namespace eq {

/// Copies n numbers; encodings must be equal, or both float with `y_type` not f16.
void transfer(void* y, DType y_type, const void* x, DType x_type, std::int64_t n);

}  // namespace eq
