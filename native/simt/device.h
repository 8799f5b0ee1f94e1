// The device that the tests run CUDA sources on without a GPU (simt.h). Launches run at once, on the calling thread.
// Every tensor is an allocation of its own that ends at an inaccessible page and starts as NaN.
#pragma once

#include <map>
#include <unordered_map>
#include <vector>

#include "runtime/cuda/kernel.cuh"
#include "runtime/device.h"
#include "simt/global_memory.h"

namespace eq::simt {

class SimtDevice final : public Device, public GlobalMemory {
 public:
  static std::shared_ptr<SimtDevice> create();
  ~SimtDevice() override;

  std::string name() const override { return "simt"; }
  void upload(const Tensor& t, const void* source, DType source_dtype) override;
  void read(const Tensor& t, void* destination, std::function<void(std::string)> done) override;
  void synchronize() override;
  void copy(const Tensor& to, const Tensor& from) override;

  void* raw_allocate(std::size_t bytes) override;
  void raw_free(void* p, std::size_t bytes) override;
  std::uint64_t submitted() const override { return 1; }
  std::uint64_t completed() const override { return 1; }
  void wait_for(std::uint64_t) override {}
  bool reuses_memory() const override { return false; }

  void begin_recording() override;
  std::unique_ptr<Recording> end_recording() override;
  void abandon_recording() override;
  void keep(const std::shared_ptr<Buffer>& buffer) override;

  /// Runs `work` now, or adds it to the recording.
  void queue(std::function<void()> work);
  /// Queues a copy of host bytes.
  void put(void* to, std::vector<std::byte> bytes);
  Fault fault_site(const OpInfo& info, const char* message);
  unsigned* tickets() { return tickets_; }
  /// 80, or 90: EQUIPOISE_SIMT_CAPABILITY.
  int compute_capability() const { return capability_; }
  bool owns(std::uintptr_t address) const override;
  std::string describe(std::uintptr_t address) const override;

 private:
  SimtDevice();
  std::string take_fault();

  struct Allocation {
    std::byte* map;
    std::size_t map_bytes, bytes;
  };
  std::map<std::byte*, Allocation> allocations_;
  struct Site {
    OpInfo info;
    const char* message;
  };
  std::vector<Site> sites_;
  std::unordered_map<std::string, unsigned> site_numbers_;
  class Tape;
  std::unique_ptr<Tape> tape_;  ///< being recorded
  FaultRecord record_{};
  std::string overrun_;
  unsigned* tickets_ = nullptr;
  int capability_;
};

inline SimtDevice& simt_device(Device& device) { return static_cast<SimtDevice&>(device); }

}  // namespace eq::simt
