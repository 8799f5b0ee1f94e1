#include "isa.h"

#include <cstdlib>
#include <cstring>
#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace eq {

namespace {

#if defined(__x86_64__)
bool os_saves(unsigned long long mask) {
  unsigned a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE)) return false;
  unsigned lo, hi;
  __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
  return ((static_cast<unsigned long long>(hi) << 32 | lo) & mask) == mask;
}

// Linux hands out the 8 KB of tile data only to processes that ask for it.
bool request_tile_data() {
#if defined(__linux__)
  constexpr int kArchReqXcompPerm = 0x1023, kXfeatureTileData = 18;
  return syscall(SYS_arch_prctl, kArchReqXcompPerm, kXfeatureTileData) == 0;
#else
  return false;
#endif
}

std::string brand_string() {
  unsigned r[12];
  if (!__get_cpuid(0x80000002u, &r[0], &r[1], &r[2], &r[3])) return "x86-64";
  __get_cpuid(0x80000003u, &r[4], &r[5], &r[6], &r[7]);
  __get_cpuid(0x80000004u, &r[8], &r[9], &r[10], &r[11]);
  char text[49] = {};
  std::memcpy(text, r, 48);
  return text;
}
#endif

CpuFeatures detect() {
  CpuFeatures f;
#if defined(__x86_64__)
  f.model = brand_string();
  constexpr unsigned long long kYmm = 0x6, kZmm = 0xe6, kTiles = 0x60000;
  __builtin_cpu_init();
  f.avx2 = os_saves(kYmm) && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  f.avx512 = os_saves(kZmm) && f.avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  unsigned a, b, c, d;
  if (f.avx512 && __get_cpuid_count(7, 1, &a, &b, &c, &d)) f.avx512_bf16 = (a >> 5) & 1u;
  if (f.avx512 && __get_cpuid_count(7, 0, &a, &b, &c, &d))
    f.amx_bf16 = ((d >> 22) & 1u) && ((d >> 24) & 1u) && os_saves(kTiles) && request_tile_data();
#else
  f.model = "unknown";
#endif
  return f;
}

Isa choose() {
  Isa best = Isa::Portable;
#if defined(EQ_MULTI_ISA)
  if (cpu_features().avx2) best = Isa::Avx2;
  if (cpu_features().avx512) best = Isa::Avx512;
#endif
  if (const char* env = std::getenv("EQUIPOISE_ISA")) {
    for (Isa isa : {Isa::Portable, Isa::Avx2, Isa::Avx512})
      if (std::strcmp(env, isa_name(isa)) == 0 && isa < best) best = isa;
  }
  return best;
}

}  // namespace

const CpuFeatures& cpu_features() {
  static const CpuFeatures features = detect();
  return features;
}

Isa active_isa() {
  static const Isa isa = choose();
  return isa;
}

const char* isa_name(Isa isa) {
  switch (isa) {
    case Isa::Portable:
      return "portable";
    case Isa::Avx2:
      return "avx2";
    case Isa::Avx512:
      return "avx512";
  }
  return "?";
}

}  // namespace eq
