#pragma once

#include <cstddef>

namespace eq {

/// Per-thread working memory of the matrix kernels, aligned to 64 bytes. Kept between calls; contents are undefined.
/// Throws std::bad_alloc.
std::byte* gemm_scratch(std::size_t bytes);

}  // namespace eq
