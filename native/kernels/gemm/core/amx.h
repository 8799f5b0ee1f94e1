// AMX-bf16 microkernel: 2 x 2 tiles, each 16 x 16 sums over 32 steps of k, from a row-major panel of A (32 rows) and
// a pair-interleaved panel of B (32 columns), whose rows of pairs are tile rows as they lie.
//
// Status: compiled by GCC 12, and its addressing checked with the tile instructions replaced by the functions under
// EQ_AMX_EMULATE; the instructions themselves have not been executed where this was written. At first use a child
// process compares it with plain sums (cpu_dispatch.cc); if that fails in any way, AVX512_BF16 serves instead.
//
// The four tiles that a step loads (4 KB) feed four multiplications of 16 cycles: they must come from the first-level
// cache. B's panel (24 KB) stays there, A's next panel is prefetched while the current one is multiplied.
#pragma once

#include "geometry.h"

#if defined(__AMX_BF16__) || defined(EQ_AMX_EMULATE)
#define EQ_AMX 1

#include <immintrin.h>

namespace eq::EQ_ISA {

#if defined(EQ_AMX_EMULATE)
struct Tile {
  alignas(64) unsigned char bytes[16][64];
};
static thread_local Tile emulated_tiles[8];
static void emulated_load(int t, const void* p, std::int64_t stride) {
  for (int r = 0; r < 16; ++r) std::memcpy(emulated_tiles[t].bytes[r], static_cast<const char*>(p) + r * stride, 64);
}
static void emulated_store(int t, void* p, std::int64_t stride) {
  for (int r = 0; r < 16; ++r) std::memcpy(static_cast<char*>(p) + r * stride, emulated_tiles[t].bytes[r], 64);
}
static void emulated_multiply(int c, int a, int b) {
  for (int m = 0; m < 16; ++m)
    for (int n = 0; n < 16; ++n)
      for (int k = 0; k < 32; ++k) {
        const auto* x = reinterpret_cast<const bf16*>(emulated_tiles[a].bytes[m]);
        const auto* y = reinterpret_cast<const bf16*>(emulated_tiles[b].bytes[k / 2]);
        reinterpret_cast<float*>(emulated_tiles[c].bytes[m])[n] +=
            static_cast<float>(x[k]) * static_cast<float>(y[2 * n + k % 2]);
      }
}
#define EQ_TILE_LOAD(t, p, stride) emulated_load(t, p, stride)
#define EQ_TILE_STORE(t, p, stride) emulated_store(t, p, stride)
#define EQ_TILE_ZERO(t) emulated_tiles[t] = {}
#define EQ_TILE_MULTIPLY(c, a, b) emulated_multiply(c, a, b)
#else
// Not the intrinsic either: GCC 12's does not say that it reads memory, and packing may be moved behind it.
#define EQ_TILE_LOAD(t, p, stride) \
  __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #t : : "r"(p), "r"(static_cast<long>(stride)) : "memory")
#define EQ_TILE_STORE(t, p, stride) _tile_stored(t, p, stride)
#define EQ_TILE_ZERO(t) _tile_zero(t)
#define EQ_TILE_MULTIPLY(c, a, b) _tile_dpbf16ps(c, a, b)
#endif

/// Eight tiles of 16 rows of 64 bytes, for the thread that holds it; released at the end, so that the system need not
/// save 8 KB at every switch of threads.
class TileScope {
 public:
  TileScope() {
#if !defined(EQ_AMX_EMULATE)
    struct alignas(64) Config {
      std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
      std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    } config;
    static_assert(sizeof(Config) == 64);
    // Not the intrinsic: GCC 12's does not say that it reads the struct, and drops the stores that fill it.
    __asm__ volatile("ldtilecfg %0" : : "m"(config));
#endif
  }
  ~TileScope() {
#if !defined(EQ_AMX_EMULATE)
    __asm__ volatile("tilerelease" : : : "memory");
#endif
  }
  TileScope(const TileScope&) = delete;
  TileScope& operator=(const TileScope&) = delete;
};

/// RT x CT tiles; c receives 16 RT rows of 16 CT sums, whatever part of them is used.
template <int RT, int CT>
static void micro_amx(std::int64_t kc, const bf16* a, const bf16* b, float* c, std::int64_t ldc, bool fresh) {
  constexpr std::int64_t kLow = 16 * Panel<bf16>::kStride;  // the second tile row of A
  constexpr std::int64_t kRowBytes = Panel<bf16>::kStride * 2, kPairBytes = CT * 64;
  constexpr std::int64_t kPanelSize = Panel<bf16>::kRows * Panel<bf16>::kStride;
  const std::int64_t c_bytes = ldc * 4;
  if (fresh) {
    EQ_TILE_ZERO(0);
    if constexpr (CT == 2) EQ_TILE_ZERO(1);
    if constexpr (RT == 2) EQ_TILE_ZERO(2);
    if constexpr (RT == 2 && CT == 2) EQ_TILE_ZERO(3);
  } else {
    EQ_TILE_LOAD(0, c, c_bytes);
    if constexpr (CT == 2) EQ_TILE_LOAD(1, c + 16, c_bytes);
    if constexpr (RT == 2) EQ_TILE_LOAD(2, c + 16 * ldc, c_bytes);
    if constexpr (RT == 2 && CT == 2) EQ_TILE_LOAD(3, c + 16 * ldc + 16, c_bytes);
  }
  for (std::int64_t k = 0; k < kc; k += 32, a += 32, b += 16 * CT * 32) {
    EQ_TILE_LOAD(4, a, kRowBytes);
    EQ_TILE_LOAD(6, b, kPairBytes);
    EQ_TILE_MULTIPLY(0, 4, 6);
    if constexpr (CT == 2) {
      EQ_TILE_LOAD(7, b + 32, kPairBytes);
      EQ_TILE_MULTIPLY(1, 4, 7);
    }
    if constexpr (RT == 2) {
      EQ_TILE_LOAD(5, a + kLow, kRowBytes);
      EQ_TILE_MULTIPLY(2, 5, 6);
      if constexpr (CT == 2) EQ_TILE_MULTIPLY(3, 5, 7);
      // The next panel of A; beyond the last one a prefetch reads nothing and does no harm.
      for (int r = 0; r < 32; ++r) __builtin_prefetch(a + kPanelSize + r * Panel<bf16>::kStride);
    }
  }
  EQ_TILE_STORE(0, c, c_bytes);
  if constexpr (CT == 2) EQ_TILE_STORE(1, c + 16, c_bytes);
  if constexpr (RT == 2) EQ_TILE_STORE(2, c + 16 * ldc, c_bytes);
  if constexpr (RT == 2 && CT == 2) EQ_TILE_STORE(3, c + 16 * ldc + 16, c_bytes);
}

}  // namespace eq::EQ_ISA

#else
#define EQ_AMX 0

namespace eq::EQ_ISA {
/// Nothing to set up on processors without tiles.
struct TileScope {};
}  // namespace eq::EQ_ISA
#endif
