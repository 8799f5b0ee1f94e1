#pragma once

#include <cstring>
#include <memory>

#include "queue.h"
#include "runtime/device.h"
#include "thread_pool.h"

namespace eq {

/// Main memory, one queue thread, and the process-wide pool of workers.
class CpuDevice final : public Device {
 public:
  static std::shared_ptr<CpuDevice> create();
  ~CpuDevice() override;

  std::string name() const override { return "cpu"; }
  void upload(const Tensor& t, const void* source, DType source_dtype) override;
  void read(const Tensor& t, void* destination, std::function<void(std::string)> done) override;
  void synchronize() override;
  void copy(const Tensor& to, const Tensor& from) override {
    launch({"Copy", {from.shape}, 0, 2.0 * static_cast<double>(from.bytes())},
           [y = to.data(), x = from.data(), n = from.bytes()](ThreadPool&) { std::memcpy(y, x, n); });
  }

  void* raw_allocate(std::size_t bytes) override;
  void raw_free(void* p, std::size_t bytes) override;
  std::uint64_t submitted() const override { return queue_.submitted(); }
  std::uint64_t completed() const override { return queue_.completed(); }
  void wait_for(std::uint64_t position) override { queue_.wait_for(position); }

  /// Queues a kernel. `body` captures plain pointers and sizes: tensors freed meanwhile stay untouched
  /// until it has run (see CachingAllocator). It receives the pool.
  template <class Body>
  void launch(const OpInfo& info, Body body) {
    queue_.enqueue(info, [body = std::move(body), &pool = pool_]() mutable { body(pool); });
  }
  ThreadPool& pool() { return pool_; }

 private:
  CpuDevice();
  ThreadPool& pool_;
  CpuQueue queue_;
};

/// Every launcher of the CPU addon gets its device this way.
inline CpuDevice& cpu(Device& device) { return static_cast<CpuDevice&>(device); }

}  // namespace eq
