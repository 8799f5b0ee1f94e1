#include "runtime/cuda/external.h"

#include "simt/device.h"
#include "simt/work_queue.h"

namespace eq {

namespace {

class DeviceQueue final : public simt::WorkQueue {
 public:
  void add(std::function<void()> work) override { simt::simt_device(*device).queue(std::move(work)); }
  Device* device = nullptr;
};

}  // namespace

bool launch_external(Device&, const OpInfo&, const std::function<bool()>& queue) { return queue(); }

void* external_stream(Device& device) {
  static DeviceQueue queue;
  queue.device = &device;
  return static_cast<simt::WorkQueue*>(&queue);
}

std::string device_model(Device&) { return "simt"; }

}  // namespace eq
