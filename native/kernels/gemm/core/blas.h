// cuBLASLt, where it is installed: found with dlopen at the first product, never needed. A product it can compute is
// one of the ways that choice.h measures.
//
// EQUIPOISE_CUBLASLT names the library's file, or is 0 to do without.
#pragma once

#include <string>

#include "kernels/gemm/core/tile_gemm.h"

namespace eq::tile {

bool blas_usable(Device& device);
/// Which library, or why none.
std::string blas_state();
/// Queues the product; false where its epilogue or layout is none of cuBLASLt's.
bool blas_product(Device& device, const OpInfo& info, const Gemm& g);

}  // namespace eq::tile
