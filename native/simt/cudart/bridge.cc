// Launches of kernels compiled for the shim, queued through the runtime of native/runtime/cuda on the model of a GPU.
#include <cstring>

#include "simt/cudart/model.h"
#include "simt/scheduler.h"

namespace eq {

namespace detail {
// As kernel.cuh has it without EQ_SIMT.
void launch(Device& device, const OpInfo& info, const void* kernel, const Launch& launch, void** parameters);
}  // namespace detail

namespace simt {

void launch(Device& device, const OpInfo& info, const Launch& launch, void (*thread)(void*),
            std::shared_ptr<void> context) {
  const std::string op = info.describe();
  const std::size_t most_shared = cudart::model().most_shared();
  cudart::Kernel kernel{[=] { run_launch(op, launch, most_shared, thread, context.get(), cudart::model()); }, op,
                        launch.cluster};
  void* parameters[] = {&kernel, nullptr};
  // What launch_kernel bound begins with the kernel.
  const void* function;
  std::memcpy(&function, context.get(), sizeof function);
  detail::launch(device, info, function, launch, parameters);
}

}  // namespace simt

}  // namespace eq
