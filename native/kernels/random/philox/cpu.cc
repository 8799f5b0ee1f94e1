#include "kernels/simd.h"
#include "op.h"
#include "runtime/cpu/device.h"
#include "series.h"

#include <algorithm>
#include <cmath>

EQ_DECLARE_ISA(void philox_compute(const PhiloxArgs& a, ThreadPool& pool))

namespace eq::EQ_ISA {

namespace {

using vul = std::uint64_t __attribute__((vector_size(EQ_SIMD_BYTES)));

/// One Philox block per lane.
constexpr std::int64_t kTile = 4 * kLanes;

/// High and low halves of x * m, lane by lane: 64-bit products of the even and of the odd lanes.
EQ_INLINE void multiply(vu x, std::uint32_t m, vu& high, vu& low) {
  const vul even = (as<vul>(x) & 0xffffffffull) * m, odd = (as<vul>(x) >> 32) * m;
  high = as<vu>((even >> 32) | (odd & ~0xffffffffull));
  low = x * m;
}

/// Ten rounds on kLanes consecutive blocks; words[j] receives word j of every block.
void philox_words(const PhiloxArgs& a, std::uint64_t block, vu (&words)[4]) {
  vu c0{}, c1{};
  for (int i = 0; i < kLanes; ++i) {
    c0[i] = static_cast<std::uint32_t>(block + static_cast<std::uint64_t>(i));
    c1[i] = static_cast<std::uint32_t>((block + static_cast<std::uint64_t>(i)) >> 32);
  }
  vu c2 = vu{} + a.stream[0], c3 = vu{} + a.stream[1];
  std::uint32_t k0 = a.seed[0], k1 = a.seed[1];
  for (int round = 0; round < 10; ++round) {
    vu high0, low0, high1, low1;
    multiply(c0, 0xd2511f53u, high0, low0);
    multiply(c2, 0xcd9e8d57u, high1, low1);
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
EQ_INLINE vd log_unit(vd a) {
  using vl = std::int64_t __attribute__((vector_size(EQ_SIMD_BYTES)));
  const vl bits = as<vl>(a);
  // a = 2^e m with m in [sqrt(1/2), sqrt(2)).
  const vl e = (bits - 0x3fe6a09e667f3bcdll) >> 52;
  const vd f = as<vd>(bits - (e << 52)) - 1.0;
  const vd k = __builtin_convertvector(e, vd);
  const vd s = f / (2.0 + f), half = 0.5 * f * f;
  return k * 6.93147180369123816490e-01 - ((half - (log_series(s, half) + k * 1.90821492927058770002e-10)) - f);
}

/// cos and sin of 2 pi b, b in [0, 1) a multiple of 2^-24: the distance to the nearest quarter turn is exact.
EQ_INLINE void turn(vd b, vd& cosine, vd& sine) {
  const vd quarter = (b * 4.0 + 6755399441055744.0) - 6755399441055744.0;
  const vd x = (b - quarter * 0.25) * 6.283185307179586477, z = x * x;
  const vd s = sine_series(x, z), c = cosine_series(z);
  const vd odd_c = quarter == 1.0 ? -s : s;  // quarter turns 1 and 3
  const vd even_c = quarter == 2.0 ? -c : c;
  const vd odd_s = quarter == 1.0 ? c : -c;
  const vd even_s = quarter == 2.0 ? -s : s;
  const auto is_odd = (quarter == 1.0) | (quarter == 3.0);
  cosine = is_odd ? odd_c : even_c;
  sine = is_odd ? odd_s : even_s;
}

EQ_INLINE vd root(vd x) {
  vd y;
  for (int i = 0; i < kDoubleLanes; ++i) y[i] = std::sqrt(x[i]);
  return y;
}

/// The 4 * kLanes numbers of kLanes blocks, in stream order.
void philox_tile(const PhiloxArgs& a, std::uint64_t block, float* out) {
  vu words[4];
  philox_words(a, block, words);
  if (!a.normal) {
    for (int j = 0; j < 4; ++j) {
      const vf u = __builtin_convertvector(as<vi>(words[j] >> 8), vf) * 0x1p-24f;
      for (int i = 0; i < kLanes; ++i) out[4 * i + j] = u[i];
    }
    return;
  }
  for (int pair = 0; pair < 4; pair += 2) {
    std::int32_t first[kLanes], second[kLanes];
    store(first, words[pair] >> 8);
    store(second, words[pair + 1] >> 8);
    for (int at = 0; at < kLanes; at += kDoubleLanes) {
      const vd u = (__builtin_convertvector(load<vi_half>(first + at), vd) + 1.0) * 0x1p-24;
      const vd b = __builtin_convertvector(load<vi_half>(second + at), vd) * 0x1p-24;
      const vd radius = root(-2.0 * log_unit(u));
      vd cosine, sine;
      turn(b, cosine, sine);
      for (int i = 0; i < kDoubleLanes; ++i) {
        out[4 * (at + i) + pair] = static_cast<float>(radius[i] * cosine[i]);
        out[4 * (at + i) + pair + 1] = static_cast<float>(radius[i] * sine[i]);
      }
    }
  }
}

}  // namespace

void philox_compute(const PhiloxArgs& a, ThreadPool& pool) {
  const std::uint64_t first_block = a.offset / 4;
  const auto skip = static_cast<std::int64_t>(a.offset % 4);
  const std::int64_t tiles = (skip + a.n + kTile - 1) / kTile;
  pool.parallel_for(tiles, 64, [&](std::int64_t begin, std::int64_t end) {
    float values[kTile];
    for (std::int64_t t = begin; t < end; ++t) {
      const std::uint64_t block = first_block + static_cast<std::uint64_t>(t) * kLanes;
      const std::int64_t at = t * kTile - skip;  // where the tile's first number would go
      if (at >= 0 && at + kTile <= a.n) {
        philox_tile(a, block, a.out + at);
        continue;
      }
      philox_tile(a, block, values);
      const std::int64_t from = std::max<std::int64_t>(0, -at), to = std::min(kTile, a.n - at);
      std::copy(values + from, values + to, a.out + at + from);
    }
  });
}

}  // namespace eq::EQ_ISA

#if EQ_ISA_BASE
namespace eq {

void philox_launch(Device& device, const OpInfo& info, const PhiloxArgs& args) {
  cpu(device).launch(info, [args](ThreadPool& pool) { EQ_DISPATCH(philox_compute)(args, pool); });
}

}  // namespace eq
#endif
