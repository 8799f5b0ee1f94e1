#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>

#include "status.h"

namespace eq {

/// Dimensions of a row-major tensor. Rank 0 is a scalar. Sizes may be 0; products never overflow.
class Shape {
 public:
  static constexpr int kMaxRank = 8;
  /// Keeps every byte offset of a tensor far inside int64 and allocations plausible.
  static constexpr std::int64_t kMaxElements = std::int64_t{1} << 40;

  Shape() = default;
  Shape(std::initializer_list<std::int64_t> dims) { assign(dims.begin(), static_cast<int>(dims.size())); }
  Shape(const std::int64_t* dims, int rank) { assign(dims, rank); }

  int rank() const { return rank_; }
  std::int64_t operator[](int i) const { return dims_[i]; }
  /// Negative indices count from the end.
  std::int64_t at(int i) const { return dims_[i < 0 ? i + rank_ : i]; }
  std::int64_t numel() const { return numel_; }
  const std::int64_t* begin() const { return dims_.data(); }
  const std::int64_t* end() const { return dims_.data() + rank_; }
  bool operator==(const Shape& o) const {
    if (rank_ != o.rank_) return false;
    for (int i = 0; i < rank_; ++i)
      if (dims_[i] != o.dims_[i]) return false;
    return true;
  }

  std::string str() const {
    std::string s(1, '[');
    for (int i = 0; i < rank_; ++i) {
      if (i) s += ',';
      s += std::to_string(dims_[i]);
    }
    return s += ']';
  }

 private:
  void assign(const std::int64_t* dims, int rank) {
    check_range(rank >= 0 && rank <= kMaxRank, "shape: rank ", rank, " is outside 0..", kMaxRank);
    rank_ = rank;
    numel_ = 1;
    bool zero = false;
    for (int i = 0; i < rank; ++i) {
      check_range(dims[i] >= 0, "shape: dimension ", i, " is negative (", dims[i], ")");
      dims_[i] = dims[i];
      if (dims[i] == 0)
        zero = true;
      else
        check_range(!__builtin_mul_overflow(numel_, dims[i], &numel_) && numel_ <= kMaxElements,
                    "shape: more than 2^40 elements");
    }
    if (zero) numel_ = 0;
  }

  int rank_ = 0;
  std::int64_t numel_ = 1;
  std::array<std::int64_t, kMaxRank> dims_{};
};

}  // namespace eq
