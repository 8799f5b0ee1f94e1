// What a launch must know of the memory that its kernels share.
#pragma once

#include <cstdint>
#include <string>

namespace eq::simt {

class GlobalMemory {
 public:
  virtual ~GlobalMemory() = default;
  /// Whether `address` is on a page of device memory.
  virtual bool owns(std::uintptr_t address) const = 0;
  /// What an address is, for errors.
  virtual std::string describe(std::uintptr_t address) const = 0;
};

}  // namespace eq::simt
