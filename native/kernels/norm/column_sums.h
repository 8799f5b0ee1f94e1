// Sums over rows that give the gradients of a norm's parameters, in two steps whose result does not depend on the
// number of threads: fixed blocks of rows leave partial sums [blocks, 2, C]; then each channel adds up its blocks.
// Include it in cpu.cc files only.
#pragma once

#include "kernels/blocks.h"
#include "norm.h"
#include "runtime/cpu/thread_pool.h"

namespace eq::EQ_ISA {

/// out[0][c] = sum over blocks of partial[.][0][c], and out[1][c] likewise.
static inline void add_blocks(const float* partial, std::int64_t blocks, std::int64_t channels, float* first,
                              float* second, ThreadPool& pool) {
  pool.parallel_for(channels, 1024, [=](std::int64_t begin, std::int64_t end) {
    for (std::int64_t c = begin; c < end; ++c) {
      double a = 0, b = 0;
      for (std::int64_t i = 0; i < blocks; ++i) {
        a += static_cast<double>(partial[(2 * i) * channels + c]);
        b += static_cast<double>(partial[(2 * i + 1) * channels + c]);
      }
      first[c] = static_cast<float>(a);
      second[c] = static_cast<float>(b);
    }
  });
}

}  // namespace eq::EQ_ISA
