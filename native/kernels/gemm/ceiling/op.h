// What the processor can do at most, to judge the matrix kernels by: multiply-adds on registers alone, and copying.
//
// Multiply: `rounds` rounds of 24 independent vector multiply-adds on each of the pool's threads, of floats or of
// bf16 pairs (RangeError where the processor has no instruction for them). The result [threads] only keeps the
// compiler from dropping the work. FLOPs: as given in the profile. Copy: x [n] -> y [n], bytes read + written.
#pragma once

#include "runtime/device.h"

namespace eq {

/// Multiply-adds per round and thread; 0 where the processor lacks the instruction.
double ceiling_flops_per_round(Device& device, bool half);
/// Threads that a launch keeps busy.
int ceiling_threads(Device& device);
/// Implemented by each device.
void ceiling_multiply_launch(Device& device, const OpInfo& info, bool half, std::int64_t rounds, float* out);
void ceiling_copy_launch(Device& device, const OpInfo& info, const void* from, void* to, std::int64_t bytes);

inline Tensor ceiling_multiply(Device& device, bool half, std::int64_t rounds) {
  const double flops = ceiling_flops_per_round(device, half);
  check_range(flops > 0, "CeilingMultiply: this processor does not multiply bf16");
  const int threads = ceiling_threads(device);
  const Tensor out = device.empty(DType::F32, {threads});
  ceiling_multiply_launch(device, {"CeilingMultiply", {out.shape}, flops * static_cast<double>(rounds * threads), 0},
                          half, rounds, out.data<float>());
  return out;
}

inline Tensor ceiling_copy(Device& device, const Tensor& x) {
  const Tensor y = device.empty(x.dtype, x.shape);
  ceiling_copy_launch(device, {"CeilingCopy", {x.shape}, 0, 2.0 * static_cast<double>(x.bytes())}, x.data(), y.data(),
                      static_cast<std::int64_t>(x.bytes()));
  return y;
}

}  // namespace eq
