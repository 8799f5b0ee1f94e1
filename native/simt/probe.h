#pragma once

#include "simt/device.h"

namespace eq {

/// Runs the probe of probe_hopper.cc with this name, which throws what it finds; false if there is none.
bool probe_hopper(simt::SimtDevice& device, const char* name);

}  // namespace eq
