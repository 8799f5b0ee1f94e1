#include "filter_layout.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "status.h"

namespace eq {

namespace {

typedef std::uint16_t Row16 __attribute__((vector_size(16)));
typedef std::uint32_t Row32 __attribute__((vector_size(16)));

/// Squares of 16-byte rows, transposed in registers: as many perfect shuffles as the side is a power of two.
template <class T>
struct Square {
  static constexpr int kSide = 16 / static_cast<int>(sizeof(T));
  using Row = std::conditional_t<sizeof(T) == 2, Row16, Row32>;

  static void transpose(const T* from, std::int64_t from_stride, T* const (&to)[kSide]) {
    Row rows[kSide];
    for (int i = 0; i < kSide; ++i) std::memcpy(&rows[i], from + i * from_stride, sizeof(Row));
    for (int step = 1; step < kSide; step *= 2) {
      Row next[kSide];
      for (int i = 0; i < kSide / 2; ++i) {
        next[2 * i] = interleave(rows[i], rows[i + kSide / 2], 0);
        next[2 * i + 1] = interleave(rows[i], rows[i + kSide / 2], kSide / 2);
      }
      std::memcpy(rows, next, sizeof rows);
    }
    for (int i = 0; i < kSide; ++i) std::memcpy(to[i], &rows[i], sizeof(Row));
  }

  /// a0 b0 a1 b1 ..., from element `first` of both.
  static Row interleave(Row a, Row b, int first) {
    if constexpr (kSide == 8)
      return first == 0 ? __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11)
                        : __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
    else
      return first == 0 ? __builtin_shufflevector(a, b, 0, 4, 1, 5) : __builtin_shufflevector(a, b, 2, 6, 3, 7);
  }
};

template <class T>
void reorder(const T* from, T* to, std::int64_t out, std::int64_t in, std::int64_t taps) {
  constexpr int kSide = Square<T>::kSide;
  // A cache line of the source is used up at once.
  constexpr std::int64_t kLine = 64 / static_cast<std::int64_t>(sizeof(T));
  const std::int64_t depth = in * taps;
  const auto row = [&](std::int64_t r) { return to + (r % taps * in + r / taps) * out; };
  for (std::int64_t line = 0; line < depth; line += kLine) {
    const std::int64_t end = std::min(line + kLine, depth);
    T* rows[kLine];
    for (std::int64_t r = line; r < end; ++r) rows[r - line] = row(r);
    std::int64_t o = 0;
    for (; o + kSide <= out; o += kSide) {
      std::int64_t r = line;
      for (; r + kSide <= end; r += kSide) {
        T* targets[kSide];
        for (int i = 0; i < kSide; ++i) targets[i] = rows[r - line + i] + o;
        Square<T>::transpose(from + o * depth + r, depth, targets);
      }
      for (; r < end; ++r)
        for (int i = 0; i < kSide; ++i) rows[r - line][o + i] = from[(o + i) * depth + r];
    }
    for (; o < out; ++o)
      for (std::int64_t r = line; r < end; ++r) rows[r - line][o] = from[o * depth + r];
  }
}

}  // namespace

void filter_to_hwio(const void* from, void* to, std::int64_t out_channels, std::int64_t in_channels, std::int64_t taps,
                    std::size_t element_size) {
  if (element_size == 2)
    reorder(static_cast<const std::uint16_t*>(from), static_cast<std::uint16_t*>(to), out_channels, in_channels, taps);
  else if (element_size == 4)
    reorder(static_cast<const std::uint32_t*>(from), static_cast<std::uint32_t*>(to), out_channels, in_channels, taps);
  else
    throw TypeError("filter_to_hwio: elements must have 2 or 4 bytes");
}

}  // namespace eq
