// The device's short functions, to about 2 ulp; results and arguments below 2^-126 count as 0. NaN stays NaN.
#pragma once

#include "runtime/cuda/kernel.cuh"

namespace eq {

/// 2^x; -infinity gives 0.
__device__ inline float power_of_two(float x) {
#if EQ_SIMT
  return exp2f(x);
#else
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#endif
}

/// 1 / x.
__device__ inline float reciprocal(float x) {
#if EQ_SIMT
  return 1.0f / x;
#else
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#endif
}

}  // namespace eq
