// A device is memory plus one in-order queue. All members are called on the JavaScript thread that owns
// the device; only the work it queues runs elsewhere.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "allocator.h"
#include "profiler.h"
#include "tensor.h"

namespace eq {

/// Launches that were recorded once and run again with one call (a CUDA graph). It holds every buffer it uses.
class Recording {
 public:
  virtual ~Recording() = default;
  virtual void replay() = 0;
};

class Device : public MemorySource, public std::enable_shared_from_this<Device> {
 public:
  ~Device() override = default;

  virtual std::string name() const = 0;

  Tensor empty(DType dtype, const Shape& shape) {
    Tensor t{nullptr, dtype, shape};
    t.buffer = std::make_shared<Buffer>(shared_from_this(), t.bytes());
    return t;
  }
  /// Copies host values (f32 or bf16 for float tensors, i32, or bytes for bool), converting to t's storage.
  virtual void upload(const Tensor& t, const void* source, DType source_dtype) = 0;
  /// Queues a copy to host memory (bf16 widened to f32). `done` runs on a device thread after the copy,
  /// with the message of a pending fault or an empty string; `destination` must stay valid until then.
  virtual void read(const Tensor& t, void* destination, std::function<void(std::string fault)> done) = 0;
  /// Blocks until everything queued so far has run; throws the pending fault, if any.
  virtual void synchronize() = 0;

  /// Queues a copy between two tensors of the same type and size.
  virtual void copy(const Tensor& to, const Tensor& from) = 0;

  /// From now until end_recording launches are recorded instead of run. Values cannot be read meanwhile.
  virtual void begin_recording() { throw TypeError(name() + ": this device cannot record launches"); }
  virtual std::unique_ptr<Recording> end_recording() { throw TypeError(name() + ": nothing is being recorded"); }
  /// Drops what has been recorded since begin_recording.
  virtual void abandon_recording() {}
  bool recording() const { return recording_; }
  /// Called for every tensor that a call uses while launches are recorded: the recording keeps it alive.
  virtual void keep(const std::shared_ptr<Buffer>&) {}

  /// Marks the start of a call from JavaScript: its launches of one op are one range of the profile.
  void begin_call() { ++calls_; }
  /// Puts ranges that were timed on the device into the profiler.
  virtual void flush_profile() {}

  CachingAllocator& memory() { return *memory_; }
  Profiler& profiler() { return profiler_; }

 protected:
  /// Owned here, but created and destroyed by the concrete device, whose raw_free it calls.
  std::unique_ptr<CachingAllocator> memory_;
  Profiler profiler_;
  bool recording_ = false;
  std::uint64_t calls_ = 0;
};

inline Buffer::Buffer(std::shared_ptr<Device> owner, std::size_t bytes)
    : device(std::move(owner)), block(device->memory().allocate(bytes)) {}
inline Buffer::~Buffer() { device->memory().free(block); }

}  // namespace eq
