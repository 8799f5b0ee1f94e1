// Work that a library queues on the device's stream by itself.
#pragma once

#include <functional>

#include "runtime/device.h"

namespace eq {

/// Calls `queue`, which queues work on stream(device), as a part of the op: profiled, and counted by the allocator like
/// a launch. Returns what it returns.
bool launch_external(Device& device, const OpInfo& info, const std::function<bool()>& queue);

}  // namespace eq
