#pragma once

#include "simt/device.h"

namespace eq {

/// Run the probe of probe_hopper.cc or probe_races.cc with this name, which throws what it finds; false if there is
/// none.
bool probe_hopper(simt::SimtDevice& device, const char* name);
bool probe_races(simt::SimtDevice& device, const char* name);

}  // namespace eq
