// A recorded CUDA graph and everything that its launches point to.
#pragma once

#include <unordered_set>

#include "runtime/cuda/device.h"

namespace eq {

class CudaDevice::Graph final : public Recording {
 public:
  explicit Graph(std::shared_ptr<CudaDevice> owner) : device(std::move(owner)) {}
  ~Graph() override;
  void replay() override;

  std::shared_ptr<CudaDevice> device;
  cudaGraphExec_t executable = nullptr;
  std::uint32_t pool = 0;
  /// Tensors from before the recording that its launches use.
  std::unordered_set<std::shared_ptr<Buffer>> kept;
  /// Host values that it copies to the device.
  std::vector<Pinned> staging;
  bool faults_possible = false;
};

}  // namespace eq
