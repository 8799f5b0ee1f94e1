// The activations and their derivatives on the CUDA device: functors on single floats, for the activation kernels and
// for epilogues. As functions.h, with the device's short exponential, whose relative error grows as |x| 2^-24 (6e-7 for
// x = 10, where the result is 5e-5), and its short reciprocal to 2 ulp, which is 0 for a divisor beyond 2^126, where
// the exact quotient is below 1e-36 for every argument that occurs. The exact ones would bound bf16 kernels by
// instructions.
#pragma once

#include "runtime/cuda/approximate.cuh"

namespace eq {

/// 1 / (1 + e^-x)
__device__ inline float short_sigmoid(float x) { return reciprocal(1.0f + power_of_two(-1.44269504088896341f * x)); }

/// The distribution function F of the standard normal, to about 5e-8: F(-a) = exp(-a R(a)) / 2, see functions.h.
__device__ inline float normal_cdf(float x) {
  const float a = fabsf(x), t = fminf(a, 5.5f);
  float r = fmaf(8.989072171061707e-07f, t, -1.4978087165218312e-05f);
  r = fmaf(r, t, 7.406587974401191e-05f);
  r = fmaf(r, t, 2.162912569474429e-04f);
  r = fmaf(r, t, -5.036345217376947e-03f);
  r = fmaf(r, t, 3.6470185965299606e-02f);
  r = fmaf(r, t, 3.18276971578598e-01f);
  r = fmaf(r, t, 7.978872060775757e-01f);
  const float tail = 0.5f * __expf(-a * r);
  return x > 0.0f ? 1.0f - tail : tail;
}
/// Its density.
__device__ inline float normal_density(float x) { return 0.39894228040143268f * __expf(-0.5f * x * x); }

/// x s(a x): SiLU with a = 1, QuickGELU with a = 1.702.
__device__ inline float swish(float x, float a) { return x * short_sigmoid(a * x); }
__device__ inline float swish_derivative(float x, float a) {
  const float s = short_sigmoid(a * x);
  return s * fmaf(a * x, 1.0f - s, 1.0f);
}

struct Silu {
  __device__ float operator()(float x) const { return swish(x, 1.0f); }
  __device__ float derivative(float x) const { return swish_derivative(x, 1.0f); }
};
struct QuickGelu {
  __device__ float operator()(float x) const { return swish(x, 1.702f); }
  __device__ float derivative(float x) const { return swish_derivative(x, 1.702f); }
};
struct Gelu {
  __device__ float operator()(float x) const { return x * normal_cdf(x); }
  __device__ float derivative(float x) const { return normal_cdf(x) + x * normal_density(x); }
};

}  // namespace eq
