#pragma once

#include <memory>

#include "allocator.h"
#include "dtype.h"
#include "shape.h"

namespace eq {

class Device;

/// Device memory shared by all tensors that view it. Freed (stream-ordered) with the last reference.
struct Buffer {
  Buffer(std::shared_ptr<Device> owner, std::size_t bytes);
  ~Buffer();
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  std::shared_ptr<Device> device;
  Block block;
  /// True for weights that are written once and never again: kernels may keep a derived form in `packed`.
  bool frozen = false;
  /// Derived form of a frozen weight (for example GEMM panels), owned by whoever made it.
  std::shared_ptr<void> packed;
};

/// A dense row-major tensor. Copying copies the view, never the data.
struct Tensor {
  std::shared_ptr<Buffer> buffer;
  DType dtype = DType::F32;
  Shape shape;

  explicit operator bool() const { return buffer != nullptr; }
  std::int64_t numel() const { return shape.numel(); }
  std::size_t bytes() const { return static_cast<std::size_t>(numel()) * dtype_size(dtype); }
  template <class T = void>
  T* data() const {
    return static_cast<T*>(buffer->block.data);
  }
  /// The same bytes under another shape of equal size.
  Tensor reshaped(const Shape& s) const {
    check_range(s.numel() == numel(), "reshape: ", shape.str(), " has ", numel(), " elements, ", s.str(), " has ",
                s.numel());
    return {buffer, dtype, s};
  }
};

}  // namespace eq
