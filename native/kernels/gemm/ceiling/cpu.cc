#include <cstring>

#include "kernels/gemm/core/dispatch.h"
#include "kernels/gemm/core/micro.h"
#include "op.h"
#include "runtime/cpu/device.h"

EQ_DECLARE_MATRIX(double ceiling_flops(bool half))
EQ_DECLARE_MATRIX(float ceiling_rounds(bool half, std::int64_t rounds))

namespace eq::EQ_ISA {

// 24 accumulators hide the latency of every known multiply-add (4 to 6 cycles, two a cycle).
constexpr int kChains = EQ_SIMD_BYTES == 64 ? 24 : 12;

template <class Element>
static float run_rounds(Element x, std::int64_t rounds) {
  vf sum[kChains];
#pragma GCC unroll 24
  for (int i = 0; i < kChains; ++i) sum[i] = vf{};
  vf y = splat(1e-30f);
  __asm__ volatile("" : "+m"(y));
  for (std::int64_t r = 0; r < rounds; ++r) {
#pragma GCC unroll 24
    for (int i = 0; i < kChains; ++i) {
      sum[i] = multiply_add(sum[i], x, y);
      // Keeps the chains apart and the work in place.
#if EQ_SIMD_BYTES == 64
      __asm__ volatile("" : "+v"(sum[i]));
#elif defined(__x86_64__)
      __asm__ volatile("" : "+x"(sum[i]));
#endif
    }
  }
  vf total{};
#pragma GCC unroll 24
  for (int i = 0; i < kChains; ++i) total += sum[i];
  return hsum(total);
}

double ceiling_flops(bool half) {
#if !defined(__AVX512BF16__)
  if (half) return 0;
#endif
  return 2.0 * kChains * kLanes * (half ? 2 : 1);
}
float ceiling_rounds(bool half, std::int64_t rounds) {
#if defined(__AVX512BF16__)
  if (half) return run_rounds(Pair{0x00010001u}, rounds);
#endif
  (void)half;
  return run_rounds(1e-30f, rounds);
}

}  // namespace eq::EQ_ISA

#if EQ_ISA_BASE
namespace eq {

double ceiling_flops_per_round(Device&, bool half) { return EQ_DISPATCH_MATRIX(ceiling_flops)(half); }
int ceiling_threads(Device& device) { return cpu(device).pool().size(); }

void ceiling_multiply_launch(Device& device, const OpInfo& info, bool half, std::int64_t rounds, float* out) {
  cpu(device).launch(info, [=](ThreadPool& pool) {
    pool.parallel_for(pool.size(), 1, [=](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) out[i] = EQ_DISPATCH_MATRIX(ceiling_rounds)(half, rounds);
    });
  });
}

void ceiling_copy_launch(Device& device, const OpInfo& info, const void* from, void* to, std::int64_t bytes) {
  cpu(device).launch(info, [=](ThreadPool& pool) {
    pool.parallel_for(bytes, 1 << 20, [=](std::int64_t begin, std::int64_t end) {
      std::memcpy(static_cast<char*>(to) + begin, static_cast<const char*>(from) + begin,
                  static_cast<std::size_t>(end - begin));
    });
  });
}

}  // namespace eq
#endif
