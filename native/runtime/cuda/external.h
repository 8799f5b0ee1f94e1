// Work that a library queues on the device's stream by itself, and libraries that are used where they are installed.
#pragma once

#include <dlfcn.h>

#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "runtime/device.h"

namespace eq {

/// Calls `queue`, which queues work on external_stream(device), as a part of the op: profiled, and counted by the
/// allocator like a launch. Returns what it returns.
bool launch_external(Device& device, const OpInfo& info, const std::function<bool()>& queue);

/// The device's stream as libraries take it: a cudaStream_t. In the shim a simt::WorkQueue*, for libraries made for it.
void* external_stream(Device& device);

/// What the GPU is called.
std::string device_model(Device& device);

/// A library opened with dlopen the first time it could serve, and kept. `state` says which, or why none.
struct OpenedLibrary {
  void* file = nullptr;
  std::string state;

  /// `switch_name` is an environment variable: the library's file, or 0 for none. Without it `names` are tried in turn.
  /// In the shim, whose memory no real library takes, only a file that is named counts.
  static OpenedLibrary open(const char* switch_name, std::vector<const char*> names) {
    OpenedLibrary l;
    const char* wanted = std::getenv(switch_name);
    if (wanted && std::strcmp(wanted, "0") == 0) {
      l.state = concat("off (", switch_name, "=0)");
      return l;
    }
#if defined(EQ_SIMT) && EQ_SIMT
    names.clear();
#endif
    if (wanted) names = {wanted};
    for (const char* name : names) {
      l.file = dlopen(name, RTLD_NOW | RTLD_LOCAL);
      l.state = name;
      if (l.file) return l;
    }
    l.state = wanted ? concat("not found: ", wanted) : "not installed";
    return l;
  }

  /// Finds one function; false where the library lacks it.
  template <class Function>
  bool find(Function& function, const char* name) const {
    function = reinterpret_cast<Function>(dlsym(file, name));
    return function != nullptr;
  }
};

}  // namespace eq
