#pragma once

#include <memory>

#include "allocator.h"
#include "dtype.h"
#include "shape.h"

namespace eq {

class Device;

struct Buffer;

/// A form derived from a frozen weight (for example GEMM panels) that can stand in for its values. Made, kept and
/// turned back by the device's kernels (kernels/gemm/core/frozen.h on the CPU); CUDA has none.
struct DerivedForm {
  virtual ~DerivedForm() = default;
  /// Gives `buffer` a block again and queues the computation of its values into it.
  virtual void restore(Buffer& buffer) = 0;
  /// Gives the values' block back where this form can replace them. Only between calls: no kernel that is still to be
  /// queued may hold a pointer to them.
  virtual void settle(Buffer& buffer) = 0;
};

/// Device memory shared by all tensors that view it. Freed (stream-ordered) with the last reference.
struct Buffer {
  Buffer(std::shared_ptr<Device> owner, std::size_t bytes);
  ~Buffer();
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  std::shared_ptr<Device> device;
  /// Its data is null while `derived` stands in for it.
  Block block;
  /// True for weights that are written once and never again: kernels may keep a form of their own in `derived`.
  bool frozen = false;
  std::unique_ptr<DerivedForm> derived;

  void* values() {
    if (!block.data) derived->restore(*this);
    return block.data;
  }
};

/// A dense row-major tensor. Copying copies the view, never the data.
struct Tensor {
  std::shared_ptr<Buffer> buffer;
  DType dtype = DType::F32;
  Shape shape;

  explicit operator bool() const { return buffer != nullptr; }
  std::int64_t numel() const { return shape.numel(); }
  std::size_t bytes() const { return static_cast<std::size_t>(numel()) * dtype_size(dtype); }
  /// The values, restored first where a derived form had replaced them.
  template <class T = void>
  T* data() const {
    return static_cast<T*>(buffer->values());
  }
  /// The values if they are there, else null: for kernels that can use the derived form instead.
  const void* peek() const { return buffer->block.data; }
  /// The same bytes under another shape of equal size.
  Tensor reshaped(const Shape& s) const {
    check_range(s.numel() == numel(), "reshape: ", shape.str(), " has ", numel(), " elements, ", s.str(), " has ",
                s.numel());
    return {buffer, dtype, s};
  }
};

}  // namespace eq
