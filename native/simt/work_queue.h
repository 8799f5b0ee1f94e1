// The shim's stream as libraries made for it see it: the stand-ins of native/simt/libraries.
#pragma once

#include <functional>

namespace eq::simt {

class WorkQueue {
 public:
  virtual ~WorkQueue() = default;
  /// Runs `work` now, or in every replay of what is being recorded: it must own what it needs besides device memory.
  virtual void add(std::function<void()> work) = 0;
};

}  // namespace eq::simt
