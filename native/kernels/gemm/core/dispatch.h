// Instruction sets of the matrix kernels. Besides the three of kernels/isa.h, families under kernels/gemm and
// kernels/conv are compiled for AVX512_BF16 (vdpbf16ps) and for AMX-bf16; the best one is chosen at run time.
//
// EQUIPOISE_ISA=portable|avx2|avx512|avx512bf16|amx lowers the choice. AMX is chosen only where a child process has
// found its microkernels to give the right sums.
#pragma once

#include "kernels/isa.h"

namespace eq {

enum class MatrixIsa { Portable = 0, Avx2, Avx512, Avx512Bf16, Amx };

MatrixIsa matrix_isa();
const char* matrix_isa_name(MatrixIsa isa);

}  // namespace eq

#if defined(EQ_MULTI_ISA)
#define EQ_DECLARE_MATRIX(signature) \
  EQ_DECLARE_ISA(signature)          \
  namespace eq::avx512bf16 {         \
  signature;                         \
  }                                  \
  namespace eq::amx {                \
  signature;                         \
  }
#define EQ_DISPATCH_MATRIX(fn)                                                \
  (::eq::matrix_isa() == ::eq::MatrixIsa::Amx          ? ::eq::amx::fn        \
   : ::eq::matrix_isa() == ::eq::MatrixIsa::Avx512Bf16 ? ::eq::avx512bf16::fn \
                                                       : EQ_DISPATCH(fn))
#else
#define EQ_DECLARE_MATRIX(signature) EQ_DECLARE_ISA(signature)
#define EQ_DISPATCH_MATRIX(fn) EQ_DISPATCH(fn)
#endif
