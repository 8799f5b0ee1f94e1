// Strided copies: everything that only moves elements.  y[sum i_d t_d] = x[sum i_d s_d]  over a loop nest.
// Transposes, slices, reversals, tiles and space-to-depth shuffles read x with strides and write y densely;
// concat, pad and diag write a strided part of y. Bytes 2n * size: memory-bound.
#pragma once

#include <vector>

#include "kernels/elementwise/cast/op.h"
#include "kernels/elementwise/fill/op.h"
#include "kernels/strides.h"
#include "runtime/device.h"

namespace eq {

struct CopyArgs {
  const void* x;  ///< first element read
  void* y;        ///< first element written
  std::size_t element_size;
  Loops loops;  ///< operands x, y; no loop is empty
};
/// Implemented by each device.
void copy_launch(Device& device, const OpInfo& info, const CopyArgs& args);

namespace detail {

/// Checks that operand k, starting at `offset`, stays inside `numel` elements.
inline void check_reach(const char* op, const Loops& loops, int k, std::int64_t offset, std::int64_t numel) {
  std::int64_t low = offset, high = offset;
  for (int d = 0; d < loops.rank; ++d) {
    std::int64_t span;
    check_range(!__builtin_mul_overflow(loops.size[d] - 1, loops.step[k][d], &span) &&
                    !__builtin_add_overflow(span < 0 ? low : high, span, span < 0 ? &low : &high),
                op, ": strides overflow");
  }
  check_range(low >= 0 && high < numel, op, ": elements ", low, "..", high, " are outside a tensor of ", numel);
}

inline void copy_checked(Device& device, const char* op, const Tensor& x, std::int64_t x_offset, const Tensor& y,
                         std::int64_t y_offset, Loops loops) {
  if (loops.count() == 0) return;
  check_reach(op, loops, 0, x_offset, x.numel());
  check_reach(op, loops, 1, y_offset, y.numel());
  const std::size_t size = dtype_size(x.dtype);
  const double bytes = 2 * static_cast<double>(loops.count()) * static_cast<double>(size);
  loops.collapse();
  copy_launch(device, {op, {x.shape, y.shape}, 0, bytes},
              {x.data<std::byte>() + x_offset * static_cast<std::int64_t>(size),
               y.data<std::byte>() + y_offset * static_cast<std::int64_t>(size), size, loops});
}

}  // namespace detail

/// A dense tensor of the elements x[offset + sum i_d strides_d], i_d < dims_d. Any strides (0 repeats, negative
/// reverses); at most Loops::kMaxRank loops. `shape` has as many elements.
inline Tensor strided_view(Device& device, const char* op, const Tensor& x, const std::vector<std::int64_t>& dims,
                           const std::vector<std::int64_t>& strides, std::int64_t offset) {
  check_range(dims.size() == strides.size() && dims.size() <= Loops::kMaxRank, op, ": ", dims.size(), " dims and ",
              strides.size(), " strides");
  Loops loops;
  loops.rank = static_cast<int>(dims.size());
  loops.operands = 2;
  std::int64_t n = 1;
  for (int d = loops.rank - 1; d >= 0; --d) {
    const auto at = static_cast<std::size_t>(d);
    check_range(dims[at] >= 0 && dims[at] <= Shape::kMaxElements, op, ": dims[", d, "] is ", dims[at]);
    loops.size[d] = dims[at];
    loops.step[0][d] = strides[at];
    loops.step[1][d] = n;
    check_range(!__builtin_mul_overflow(n, dims[at], &n) && n <= Shape::kMaxElements, op, ": more than 2^40 elements");
  }
  Tensor y = device.empty(x.dtype, dims.size() <= Shape::kMaxRank ? Shape(dims.data(), loops.rank) : Shape{n});
  detail::copy_checked(device, op, x, offset, y, 0, loops);
  return y;
}

inline Tensor transpose(Device& device, const Tensor& x, const std::vector<int>& perm) {
  const int rank = x.shape.rank();
  check_range(static_cast<int>(perm.size()) == rank, "Transpose: ", perm.size(), " axes for rank ", rank);
  std::int64_t stride[Shape::kMaxRank] = {}, n = 1;
  for (int d = rank - 1; d >= 0; --d) {
    stride[d] = n;
    n *= x.shape[d];
  }
  std::vector<std::int64_t> dims, strides;
  unsigned seen = 0;
  for (int p : perm) {
    check_range(p >= 0 && p < rank && !(seen >> p & 1u), "Transpose: ", p, " is no axis of rank ", rank,
                ", or given twice");
    seen |= 1u << p;
    dims.push_back(x.shape[p]);
    strides.push_back(stride[p]);
  }
  return strided_view(device, "Transpose", x, dims, strides, 0);
}

/// Joins tensors seen as [outer, size_k, inner] along the middle dimension. Mixed float storage gives f32.
inline Tensor concat(Device& device, std::vector<Tensor> parts, const std::vector<std::int64_t>& sizes,
                     std::int64_t outer, std::int64_t inner) {
  check_range(!parts.empty() && parts.size() == sizes.size(), "Concat: ", parts.size(), " parts, ", sizes.size(),
              " sizes");
  DType type = parts[0].dtype;
  for (const Tensor& p : parts)
    if (p.dtype != type) {
      check_type(is_float(type) && is_float(p.dtype), "Concat: ", dtype_name(type), " and ", dtype_name(p.dtype),
                 " cannot be joined");
      type = DType::F32;
    }
  std::int64_t total = 0;
  for (std::size_t k = 0; k < parts.size(); ++k) {
    check_range(sizes[k] >= 0 && Shape({outer, sizes[k], inner}).numel() == parts[k].numel(), "Concat: part ", k,
                " has ", parts[k].numel(), " elements, not ", outer, " * ", sizes[k], " * ", inner);
    total += sizes[k];
  }
  Tensor y = device.empty(type, {outer, total, inner});
  std::int64_t at = 0;
  for (std::size_t k = 0; k < parts.size(); ++k) {
    const Tensor part = cast(device, parts[k], type);
    Loops loops;
    loops.rank = loops.operands = 2;
    loops.size[0] = outer;
    loops.size[1] = sizes[k] * inner;
    loops.step[0][0] = sizes[k] * inner;
    loops.step[1][0] = total * inner;
    loops.step[0][1] = loops.step[1][1] = 1;
    detail::copy_checked(device, "Concat", part, 0, y, at * inner, loops);
    at += sizes[k];
  }
  return y;
}

/// x of shape `shape` (its handle's may differ) inside a tensor of `value` with before[d] and after[d] more elements.
inline Tensor pad(Device& device, const Tensor& x, const Shape& shape, const std::vector<std::int64_t>& before,
                  const std::vector<std::int64_t>& after, double value) {
  const int rank = shape.rank();
  check_range(shape.numel() == x.numel(), "PadV2: x has ", x.numel(), " elements, its shape is ", shape.str());
  check_range(static_cast<int>(before.size()) == rank && static_cast<int>(after.size()) == rank, "PadV2: paddings for ",
              before.size(), " and ", after.size(), " dimensions, x has ", rank);
  std::int64_t dims[Shape::kMaxRank] = {};
  for (int d = 0; d < rank; ++d) {
    const auto at = static_cast<std::size_t>(d);
    check_range(
        before[at] >= 0 && after[at] >= 0 && before[at] <= Shape::kMaxElements && after[at] <= Shape::kMaxElements,
        "PadV2: paddings of dimension ", d, " are ", before[at], " and ", after[at]);
    dims[d] = before[at] + shape[d] + after[at];
  }
  Tensor y = device.empty(x.dtype, Shape(dims, rank));
  if (y.numel() > x.numel())
    range_launch(device, {"PadV2", {y.shape}, 0, static_cast<double>(y.bytes())},
                 {y.data(), y.dtype, y.numel(), value, 0});
  Loops loops;
  loops.rank = rank;
  loops.operands = 2;
  std::int64_t x_step = 1, y_step = 1, offset = 0;
  for (int d = rank - 1; d >= 0; --d) {
    loops.size[d] = shape[d];
    loops.step[0][d] = x_step;
    loops.step[1][d] = y_step;
    offset += before[static_cast<std::size_t>(d)] * y_step;
    x_step *= shape[d];
    y_step *= dims[d];
  }
  detail::copy_checked(device, "PadV2", x, 0, y, offset, loops);
  return y;
}

/// A square matrix with the n elements of x on its diagonal, 0 elsewhere.
inline Tensor diag(Device& device, const Tensor& x) {
  const std::int64_t n = x.numel();
  Tensor y = fill(device, x.dtype, {n, n}, 0);
  Loops loops;
  loops.rank = 1;
  loops.operands = 2;
  loops.size[0] = n;
  loops.step[0][0] = 1;
  loops.step[1][0] = n + 1;
  detail::copy_checked(device, "Diag", x, 0, y, 0, loops);
  return y;
}

}  // namespace eq
