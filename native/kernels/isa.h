// One source, several instruction sets. Every cpu.cc is compiled once per instruction set the compiler
// knows, each time with EQ_ISA naming a namespace; EQ_DISPATCH picks the best one this processor runs.
//
//   EQ_DECLARE_ISA(void add_compute(const AddArgs&, ThreadPool&));
//   namespace eq::EQ_ISA { void add_compute(...) { ... } }      // compiled for each instruction set
//   #if EQ_ISA_BASE                                             // compiled once
//   namespace eq { void add_launch(...) { ... EQ_DISPATCH(add_compute)(args, pool); } }
//   #endif
//
// Code in an instruction set's translation unit must live in its namespace or be `static`: an inline
// function shared with other units could be linked in its AVX-512 form and run on a processor without.
#pragma once

#include <string>

namespace eq {

enum class Isa { Portable = 0, Avx2 = 1, Avx512 = 2 };

/// Features found at run time, each requiring processor and operating-system support.
struct CpuFeatures {
  bool avx2 = false;    ///< AVX2, FMA, F16C
  bool avx512 = false;  ///< F, BW, DQ, VL
  bool avx512_bf16 = false;
  bool amx_bf16 = false;  ///< including the kernel's permission to use tile data
  std::string model;
};
const CpuFeatures& cpu_features();

/// Best instruction set that was compiled and can run; EQUIPOISE_ISA=portable|avx2|avx512 lowers it.
Isa active_isa();
const char* isa_name(Isa isa);

}  // namespace eq

#if defined(EQ_MULTI_ISA)
#define EQ_DECLARE_ISA(signature) \
  namespace eq::portable {        \
  signature;                      \
  }                               \
  namespace eq::avx2 {            \
  signature;                      \
  }                               \
  namespace eq::avx512 {          \
  signature;                      \
  }
#define EQ_DISPATCH(fn)                                       \
  (::eq::active_isa() == ::eq::Isa::Avx512 ? ::eq::avx512::fn \
   : ::eq::active_isa() == ::eq::Isa::Avx2 ? ::eq::avx2::fn   \
                                           : ::eq::portable::fn)
#else
#define EQ_DECLARE_ISA(signature) \
  namespace eq::portable {        \
  signature;                      \
  }
#define EQ_DISPATCH(fn) (::eq::portable::fn)
#endif

#if !defined(EQ_ISA)
#define EQ_ISA portable
#define EQ_ISA_BASE 1
#define EQ_SIMD_BYTES 16
#endif
