// Elementwise kernels work through blocks of outputs that stay in the first-level cache. Reading an operand into a
// block resolves storage type and broadcasting, so that the arithmetic itself exists once per op: on plain arrays of
// float or int32. Include it in cpu.cc files only.
#pragma once

#include <algorithm>
#include <type_traits>

#include "kernels/blocks.h"
#include "kernels/strides.h"

namespace eq::EQ_ISA {

/// Broadcast rows up to this long are written out repeatedly instead of being walked row by row.
constexpr std::int64_t kPeriod = 256;

/// n values from element `at` as T (float, or int32 for i32 and bool): in place if stored so, else in `buffer`.
template <class T>
static const T* load_block(const void* data, DType type, std::int64_t at, std::int64_t n, T* buffer) {
  if constexpr (std::is_same_v<T, float>) {
    if (type == DType::F32) return static_cast<const float*>(data) + at;
    if (type == DType::BF16) {
      widen(static_cast<const bf16*>(data) + at, buffer, n);
      return buffer;
    }
  }
  if (type == DType::I32) {
    const auto* x = static_cast<const std::int32_t*>(data) + at;
    if constexpr (std::is_same_v<T, std::int32_t>) return x;
    for (std::int64_t i = 0; i < n; ++i) buffer[i] = static_cast<T>(x[i]);
    return buffer;
  }
  const auto* x = static_cast<const std::uint8_t*>(data) + at;
  for (std::int64_t i = 0; i < n; ++i) buffer[i] = static_cast<T>(x[i]);
  return buffer;
}

/// Where results of type T go: straight to the output if it stores T, else through a buffer.
template <class T>
static T* block_target(void* data, DType type, std::int64_t at, T* buffer) {
  const bool direct = type == (std::is_same_v<T, float> ? DType::F32 : DType::I32);
  return direct ? static_cast<T*>(data) + at : buffer;
}
template <class T>
static void finish_block(void* data, DType type, std::int64_t at, std::int64_t n, const T* values) {
  if constexpr (std::is_same_v<T, float>) {
    if (type == DType::BF16) narrow(values, static_cast<bf16*>(data) + at, n);
  } else if (type == DType::Bool) {
    auto* y = static_cast<std::uint8_t*>(data) + at;
    for (std::int64_t i = 0; i < n; ++i) y[i] = static_cast<std::uint8_t>(values[i]);
  }
}

/// One broadcast input of an elementwise kernel.
template <class T>
class Operand {
 public:
  Operand(const void* data, DType type, const Loops& loops, int index)
      : data_(data), type_(type), loops_(loops), step_(loops.step[index]) {
    const int last = loops.rank - 1;
    if (last == 0 && step_[0] == 1) {
      kind_ = Kind::Dense;
    } else if (last == 0 && step_[0] == 0) {
      kind_ = Kind::Scalar;
      std::fill_n(buffer_, kBlock, first());
    } else if (last == 1 && step_[0] == 0 && step_[1] == 1 && loops.size[1] <= kPeriod) {
      kind_ = Kind::Periodic;
      const std::int64_t period = loops.size[1];
      const T* row = load_block(data_, type_, 0, period, buffer_);
      if (row != buffer_) std::copy(row, row + period, buffer_);
      for (std::int64_t i = period; i < kBlock + kPeriod; ++i) buffer_[i] = buffer_[i - period];
    }
  }

  bool scalar() const { return kind_ == Kind::Scalar; }
  /// The first element.
  T first() const {
    T one;
    return *load_block(data_, type_, 0, 1, &one);
  }

  /// Values of outputs [at, at + n), n <= kBlock.
  const T* read(std::int64_t at, std::int64_t n) {
    switch (kind_) {
      case Kind::Dense:
        return load_block(data_, type_, at, n, buffer_);
      case Kind::Scalar:
        return buffer_;
      case Kind::Periodic:
        return buffer_ + at % loops_.size[1];
      default:
        return read_strided(at, n);
    }
  }

 private:
  enum class Kind { Dense, Scalar, Periodic, Strided };

  const T* read_strided(std::int64_t at, std::int64_t n) {
    const int last = loops_.rank - 1;
    std::int64_t index[Loops::kMaxRank], offset = 0;
    for (int d = last; d >= 0; --d) {
      index[d] = at % loops_.size[d];
      at /= loops_.size[d];
      offset += index[d] * step_[d];
    }
    for (std::int64_t done = 0;;) {
      const std::int64_t run = std::min(loops_.size[last] - index[last], n - done);
      T* to = buffer_ + done;
      if (step_[last] == 1) {
        const T* from = load_block(data_, type_, offset, run, to);
        if (run == n) return from;
        if (from != to) std::copy(from, from + run, to);
      } else {  // broadcasting knows no other step than 0 and 1 along the innermost loop
        T one;
        std::fill_n(to, run, *load_block(data_, type_, offset, 1, &one));
      }
      done += run;
      if (done == n) return buffer_;
      offset += run * step_[last];
      index[last] += run;
      for (int d = last; d > 0 && index[d] == loops_.size[d]; --d) {
        offset += step_[d - 1] - index[d] * step_[d];
        index[d] = 0;
        ++index[d - 1];
      }
    }
  }

  const void* data_;
  DType type_;
  const Loops& loops_;
  const std::int64_t* step_;
  Kind kind_ = Kind::Strided;
  alignas(64) T buffer_[kBlock + kPeriod];
};

}  // namespace eq::EQ_ISA
