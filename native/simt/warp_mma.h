// The instructions of runtime/cuda/warp_mma.cuh, as kernels call them (warp_mma.cc).
#pragma once

#include <cstdint>

#include "simt/simt.h"

namespace eq::simt {

void copy_async(void* to, const void* from, int bytes);
void copy_commit();
void copy_wait(int pending);
void load_matrices(std::uint32_t (&r)[4], const void* row, bool transposed);
void mma_bf16(float (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1);

}  // namespace eq::simt

namespace eq {

using simt::copy_async;
using simt::copy_commit;
using simt::mma_bf16;

template <int kPending>
void copy_wait() {
  simt::copy_wait(kPending);
}
template <bool kTransposed>
void load_matrices(std::uint32_t (&r)[4], const void* row) {
  simt::load_matrices(r, row, kTransposed);
}

}  // namespace eq
