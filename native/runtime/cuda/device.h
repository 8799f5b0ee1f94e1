// The CUDA device: one GPU, one stream. Everything is queued by the JavaScript thread; a completion thread waits for
// reads. Uses the runtime API alone, linked statically, so that the addon loads where there is no driver.
#pragma once

#include <unordered_map>

#include <cuda_runtime.h>

#include "runtime/cuda/completions.h"
#include "runtime/cuda/event_profile.h"
#include "runtime/cuda/kernel.cuh"
#include "runtime/cuda/pinned.h"
#include "runtime/device.h"

namespace eq {

/// Why no GPU can be used, in one sentence; empty if one can.
std::string cuda_unusable();
int cuda_device_count();

class CudaDevice final : public Device {
 public:
  /// Throws a TypeError that says in one sentence why device `ordinal` cannot be used.
  static std::shared_ptr<CudaDevice> create(int ordinal);
  ~CudaDevice() override;

  std::string name() const override { return "cuda:" + std::to_string(ordinal_); }
  int ordinal() const { return ordinal_; }
  const cudaDeviceProp& properties() const { return properties_; }
  cudaStream_t stream() const { return stream_; }

  void upload(const Tensor& t, const void* source, DType source_dtype) override;
  void read(const Tensor& t, void* destination, std::function<void(std::string)> done) override;
  void synchronize() override;
  void copy(const Tensor& to, const Tensor& from) override;

  void begin_recording() override;
  std::unique_ptr<Recording> end_recording() override;
  void abandon_recording() override;
  void keep(const std::shared_ptr<Buffer>& buffer) override;
  void flush_profile() override { profile_.flush(profiler_); }

  void* raw_allocate(std::size_t bytes) override;
  void raw_free(void* p, std::size_t bytes) override;
  std::uint64_t submitted() const override { return submitted_; }
  std::uint64_t completed() const override;
  void wait_for(std::uint64_t position) override;
  /// EQUIPOISE_CUDA_EXACT=1: every tensor an allocation of its own, so that compute-sanitizer sees its ends.
  bool reuses_memory() const override { return !exact_; }

  void launch(const OpInfo& info, const void* kernel, const Launch& launch, void** parameters);
  bool launch_external(const OpInfo& info, const std::function<bool()>& queue);
  Fault fault_site(const OpInfo& info, const char* message);
  Tensor stage(const void* table, std::size_t bytes);
  void fill(void* p, int value, std::size_t bytes);
  unsigned* tickets() const { return reinterpret_cast<unsigned*>(record_ + 1); }

 private:
  class Graph;
  explicit CudaDevice(int ordinal);
  void open();
  void queue_upload(void* to, const void* source, DType source_dtype, DType dtype, std::int64_t n);
  void recycle_uploads(std::size_t room);
  void replay(Graph& graph);
  /// What a finished read found: a fault raised by a kernel, or an error of the device itself.
  std::string fault_of(cudaError_t status, const FaultRecord* found);
  void note(cudaError_t status);

  int ordinal_;
  cudaDeviceProp properties_{};
  cudaStream_t stream_ = nullptr;
  PinnedPool pinned_;
  EventPool events_;
  EventProfile profile_;
  std::unique_ptr<Completions> completions_;
  std::uint64_t submitted_ = 0;
  mutable std::uint64_t completed_ = 0;
  bool synchronous_ = false, exact_ = false;

  struct Upload {
    cudaEvent_t event;  ///< null if none could be had
    Pinned staging;
  };
  std::deque<Upload> uploads_;
  std::size_t uploading_ = 0;

  /// Dynamic shared memory already permitted, by kernel.
  std::unordered_map<const void*, unsigned> shared_;

  struct Site {
    OpInfo info;
    const char* message;
  };
  std::mutex sites_mutex_;
  std::vector<Site> sites_;
  std::unordered_map<std::string, unsigned> site_numbers_;
  FaultRecord* record_ = nullptr;  ///< device memory, with the tickets behind it
  bool faults_possible_ = false;
  std::string fault_;  ///< found outside a read
  std::mutex fault_mutex_;

  std::unique_ptr<Graph> graph_;  ///< being recorded
};

inline CudaDevice& cuda(Device& device) { return static_cast<CudaDevice&>(device); }

}  // namespace eq
