// A thread makes the four numbers of one Philox block: 16 bytes stored at once where the range starts with a block.
// Uniform numbers: 20 products of 32 bits a block, well under the time of the store. Normal numbers: about 60
// operations in double precision a pair, the same as on the CPU; at the f64 rate of H100 that is near the time of the
// store, on devices with few f64 units far above it.
//
// 256 threads, blocks to cover all or 32 a multiprocessor.
#include "op.h"
#include "runtime/cuda/kernel.cuh"
#include "series.h"

namespace eq {

namespace {

constexpr int kThreads = 256;

/// Ten rounds on one block of the stream.
__device__ inline void philox_words(const PhiloxArgs& a, std::uint64_t block, unsigned (&words)[4]) {
  unsigned c0 = static_cast<unsigned>(block), c1 = static_cast<unsigned>(block >> 32);
  unsigned c2 = a.stream[0], c3 = a.stream[1], k0 = a.seed[0], k1 = a.seed[1];
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const unsigned high0 = __umulhi(c0, 0xd2511f53u), low0 = c0 * 0xd2511f53u;
    const unsigned high1 = __umulhi(c2, 0xcd9e8d57u), low1 = c2 * 0xcd9e8d57u;
    c0 = high1 ^ c1 ^ k0;
    c1 = low1;
    c2 = high0 ^ c3 ^ k1;
    c3 = low0;
    k0 += 0x9e3779b9u;
    k1 += 0xbb67ae85u;
  }
  words[0] = c0;
  words[1] = c1;
  words[2] = c2;
  words[3] = c3;
}

/// Natural logarithm of a in [2^-24, 1].
__device__ inline double log_unit(double a) {
  const long long bits = __double_as_longlong(a);
  // a = 2^e m with m in [sqrt(1/2), sqrt(2)).
  const long long e = (bits - 0x3fe6a09e667f3bcdll) >> 52;
  const double f = __longlong_as_double(bits - (e << 52)) - 1.0;
  const double k = static_cast<double>(e);
  const double s = f / (2.0 + f), half = 0.5 * f * f;
  return k * 6.93147180369123816490e-01 - ((half - (log_series(s, half) + k * 1.90821492927058770002e-10)) - f);
}

/// cos and sin of 2 pi b, b in [0, 1) a multiple of 2^-24: the distance to the nearest quarter turn is exact.
__device__ inline void turn(double b, double& cosine, double& sine) {
  const double quarter = rint(b * 4.0);
  const double x = (b - quarter * 0.25) * 6.283185307179586477, z = x * x;
  const double s = sine_series(x, z), c = cosine_series(z);
  const int q = static_cast<int>(quarter);  // 4 is a whole turn
  const double first = q & 1 ? s : c, second = q & 1 ? c : s;
  cosine = q == 1 || q == 2 ? -first : first;
  sine = q == 2 || q == 3 ? -second : second;
}

__device__ inline void normal_pair(unsigned first, unsigned second, float& x, float& y) {
  const double u = (static_cast<double>(first >> 8) + 1.0) * 0x1p-24, b = static_cast<double>(second >> 8) * 0x1p-24;
  const double radius = sqrt(-2.0 * log_unit(u));
  double cosine, sine;
  turn(b, cosine, sine);
  x = static_cast<float>(radius * cosine);
  y = static_cast<float>(radius * sine);
}

/// `skip` numbers of the first block come before the range.
template <bool kNormal>
__global__ __launch_bounds__(kThreads) void philox_kernel(const PhiloxArgs a, const std::uint64_t first_block,
                                                          const int skip, const std::int64_t blocks) {
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kThreads;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < blocks; i += stride) {
    unsigned words[4];
    philox_words(a, first_block + static_cast<std::uint64_t>(i), words);
    float4 v;
    if constexpr (kNormal) {
      normal_pair(words[0], words[1], v.x, v.y);
      normal_pair(words[2], words[3], v.z, v.w);
    } else {
      v = make_float4(static_cast<float>(words[0] >> 8) * 0x1p-24f, static_cast<float>(words[1] >> 8) * 0x1p-24f,
                      static_cast<float>(words[2] >> 8) * 0x1p-24f, static_cast<float>(words[3] >> 8) * 0x1p-24f);
    }
    const std::int64_t at = 4 * i - skip;  // where the block's first number would go
    if (skip == 0 && at + 4 <= a.n) {
      *reinterpret_cast<float4*>(a.out + at) = v;
      continue;
    }
    const float values[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (int j = 0; j < 4; ++j)
      if (at + j >= 0 && at + j < a.n) a.out[at + j] = values[j];
  }
}

}  // namespace

void philox_launch(Device& device, const OpInfo& info, const PhiloxArgs& args) {
  if (args.n == 0) return;
  const int skip = static_cast<int>(args.offset % 4);
  const std::int64_t blocks = (args.n + skip + 3) / 4;
  launch_kernel(device, info, args.normal ? philox_kernel<true> : philox_kernel<false>,
                {.grid_x = grid_for(device, blocks, kThreads, 32), .block = kThreads}, args, args.offset / 4, skip,
                blocks);
}

}  // namespace eq
