#pragma once

#include <cstddef>
#include <cstdint>

namespace eq {

/// Reorders a convolution filter on the thread that calls, from [O, I, H, W] as files have it to [H, W, I, O]: a
/// transpose of [O, I taps], whose rows (i, tap) become (tap, i). Elements of 2 or 4 bytes; `to` and `from` are
/// disjoint.
void filter_to_hwio(const void* from, void* to, std::int64_t out_channels, std::int64_t in_channels, std::int64_t taps,
                    std::size_t element_size);

}  // namespace eq
