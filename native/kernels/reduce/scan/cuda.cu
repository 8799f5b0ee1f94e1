// Running sums and products along the middle of [outer, length, inner], in double precision. 2n * size bytes.
//
//   columns   many lines: a thread walks one of them; neighbours walk neighbouring lines where inner > 1.
//   lines     few: a block takes 1024 elements of a line at a time, four a thread, and carries the running value on. A
//             long line is cut into parts of 8192: one kernel finds what each part amounts to, a second one what comes
//             before each, and the third scans from there. Elements are then read twice: 3n * size bytes.
//
// 256 threads; 64 bytes of shared memory; how a line is cut follows from the shape alone.
#include "kernels/convert.cuh"
#include "kernels/packet.cuh"
#include "kernels/reduce/block_scan.cuh"
#include "op.h"

namespace eq {

namespace {

constexpr int kThreads = 256, kPerThread = 4, kRound = kThreads * kPerThread;
constexpr std::int64_t kPart = 8192;

/// Where element k, in the order of the scan, of line u lies.
__device__ inline std::int64_t place(const ScanArgs& a, std::int64_t u, std::int64_t k) {
  const std::int64_t outer = u / a.inner, column = u % a.inner;
  return (outer * a.length + (a.reverse ? a.length - 1 - k : k)) * a.inner + column;
}
__device__ inline void store_scanned(const ScanArgs& a, std::int64_t at, double value) {
  if (a.y_type == DType::F32)
    static_cast<float*>(a.y)[at] = static_cast<float>(value);
  else
    static_cast<std::int32_t*>(a.y)[at] = to_int32(value);
}

template <class Combine>
__global__ __launch_bounds__(kThreads) void scan_columns(const ScanArgs a, const Combine combine) {
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kThreads, lines = a.outer * a.inner;
  for (std::int64_t u = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x; u < lines; u += stride) {
    std::int64_t at = place(a, u, 0);
    const std::int64_t step = a.reverse ? -a.inner : a.inner;
    double running = Combine::kIdentity;
#pragma unroll 4
    for (std::int64_t k = 0; k < a.length; ++k, at += step) {
      const double before = running;
      running = combine(running, load_one<double>(a.x, a.x_type, at));
      store_scanned(a, at, a.exclusive ? before : running);
    }
  }
}

/// Scans parts of lines from `carried` (one value a part; null: from the identity), or, where `totals` is given, only
/// writes what each amounts to.
template <class Combine>
__global__ __launch_bounds__(kThreads, 4) void scan_lines(const ScanArgs a, const Combine combine,
                                                          const std::int64_t parts, const double* carried,
                                                          double* totals) {
  __shared__ double shared[kThreads / 32];
  for (std::int64_t v = blockIdx.x; v < a.outer * a.inner * parts; v += gridDim.x) {
    const std::int64_t line = v / parts, begin = v % parts * kPart;
    const std::int64_t end = min(begin + (parts == 1 ? a.length : kPart), a.length);
    double running = carried ? carried[v] : Combine::kIdentity;
    for (std::int64_t first = begin; first < end; first += kRound) {
      // Consecutive elements a thread; what one round writes is what it has read.
      const std::int64_t k = first + static_cast<int>(threadIdx.x) * kPerThread;
      double values[kPerThread], sum = Combine::kIdentity;
#pragma unroll
      for (int j = 0; j < kPerThread; ++j) {
        values[j] = k + j < end ? load_one<double>(a.x, a.x_type, place(a, line, k + j)) : Combine::kIdentity;
        sum = combine(sum, values[j]);
      }
      const Scanned scanned = block_scan<kThreads>(sum, shared, combine);
      if (!totals) {
        double here = combine(running, scanned.before);
#pragma unroll
        for (int j = 0; j < kPerThread; ++j) {
          const double before = here;
          here = combine(here, values[j]);
          if (k + j < end) store_scanned(a, place(a, line, k + j), a.exclusive ? before : here);
        }
      }
      running = combine(running, scanned.total);
    }
    if (totals && threadIdx.x == 0) totals[v] = running;
  }
}

/// Replaces each part's total by what comes before it in its line. A block a line.
template <class Combine>
__global__ __launch_bounds__(kThreads) void carry_parts(double* totals, const Combine combine, const std::int64_t lines,
                                                        const std::int64_t parts) {
  __shared__ double shared[kThreads / 32];
  for (std::int64_t line = blockIdx.x; line < lines; line += gridDim.x) {
    double running = Combine::kIdentity;
    for (std::int64_t first = 0; first < parts; first += kThreads) {
      const std::int64_t p = first + threadIdx.x;
      const double total = p < parts ? totals[line * parts + p] : Combine::kIdentity;
      const Scanned scanned = block_scan<kThreads>(total, shared, combine);
      if (p < parts) totals[line * parts + p] = combine(running, scanned.before);
      running = combine(running, scanned.total);
    }
  }
}

template <class Combine>
void launch_scan(Device& device, const OpInfo& info, const ScanArgs& a, const Combine& combine) {
  const std::int64_t lines = a.outer * a.inner;
  if (lines == 0 || a.length == 0) return;
  constexpr std::int64_t kFew = 8192, kShort = 32;
  if (lines >= kFew || a.length <= kShort)
    return launch_kernel(device, info, scan_columns<Combine>,
                         {.grid_x = grid_for(device, lines, kThreads, 16), .block = kThreads}, a, combine);
  const std::int64_t parts = (a.length + kPart - 1) / kPart;
  const Launch launch{.grid_x = grid_for(device, lines * parts, 1, 16), .block = kThreads};
  Tensor scratch;
  double* totals = nullptr;
  if (parts > 1) {
    // Two f32 make a double: no tensor is stored in double precision.
    scratch = device.empty(DType::F32, {lines, parts, 2});
    totals = scratch.data<double>();
    launch_kernel(device, info, scan_lines<Combine>, launch, a, combine, parts, nullptr, totals);
    launch_kernel(device, info, carry_parts<Combine>, {.grid_x = grid_for(device, lines, 1, 8), .block = kThreads},
                  totals, combine, lines, parts);
  }
  launch_kernel(device, info, scan_lines<Combine>, launch, a, combine, parts, totals, nullptr);
}

}  // namespace

void scan_launch(Device& device, const OpInfo& info, const ScanArgs& args) {
  if (args.product)
    launch_scan(device, info, args, ScanProduct{});
  else
    launch_scan(device, info, args, ScanSum{});
}

}  // namespace eq
