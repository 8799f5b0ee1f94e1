// Two launches. `cumulate`: a block a row sums its probabilities up in double precision, 256 at a time, into scratch
// (8 bytes a probability). `draw`: a thread a sample looks for the first class whose sum passes its uniform number:
// log2(classes) reads of 8 bytes. Both limited by latency; there are few rows, and drawing is no part of a hot loop.
#include "kernels/reduce/block_scan.cuh"
#include "kernels/strides.cuh"
#include "op.h"

namespace eq {

namespace {

constexpr int kThreads = 256;

__global__ __launch_bounds__(kThreads) void cumulate(const float* probabilities, double* sums, const std::int64_t rows,
                                                     const std::int64_t classes) {
  __shared__ double shared[kThreads / 32];
  for (std::int64_t r = blockIdx.x; r < rows; r += gridDim.x) {
    double before = 0;
    for (std::int64_t c = 0; c < classes; c += kThreads) {
      const std::int64_t at = c + threadIdx.x;
      const double p = at < classes ? static_cast<double>(__ldg(probabilities + r * classes + at)) : 0.0;
      const Scanned scanned = block_scan<kThreads>(p, shared, ScanSum{});
      if (at < classes) sums[r * classes + at] = before + (scanned.before + p);
      before += scanned.total;
    }
  }
}

__global__ __launch_bounds__(kThreads) void draw(const MultinomialArgs a, const double* sums, const std::int64_t n,
                                                 const IndexDivisor by_samples) {
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kThreads;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < n; i += stride) {
    std::int64_t sample = i;
    const double* row = sums + by_samples.divide(sample) * a.classes;
    const double target = static_cast<double>(__ldg(a.uniforms + i)) * row[a.classes - 1];
    // The first class with row[class] > target, the last one if there is none.
    std::int64_t low = 0, high = a.classes - 1;
    while (low < high) {
      const std::int64_t middle = (low + high) / 2;
      if (row[middle] > target)
        high = middle;
      else
        low = middle + 1;
    }
    a.y[i] = static_cast<std::int32_t>(low);
  }
}

}  // namespace

void multinomial_launch(Device& device, const OpInfo& info, const MultinomialArgs& args) {
  const std::int64_t n = args.rows * args.samples;
  if (n == 0) return;
  // Two f32 make a double: no tensor is stored in double precision.
  const Tensor scratch = device.empty(DType::F32, {args.rows, args.classes, 2});
  launch_kernel(device, info, cumulate, {.grid_x = grid_for(device, args.rows, 1, 8), .block = kThreads},
                args.probabilities, scratch.data<double>(), args.rows, args.classes);
  launch_kernel(device, info, draw, {.grid_x = grid_for(device, n, kThreads, 16), .block = kThreads}, args,
                scratch.data<double>(), n, IndexDivisor(args.samples, n));
}

}  // namespace eq
