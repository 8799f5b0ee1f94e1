// Errors thrown by launchers and checks. The addon turns them into JavaScript TypeError and RangeError;
// inside a queued kernel they become the device's pending fault.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace eq {

/// Wrong rank, dtype, device or handle: a JavaScript TypeError.
struct TypeError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Wrong size, index out of range, allocation over the limit: a JavaScript RangeError.
struct RangeError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

template <class... Parts>
std::string concat(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

template <class... Parts>
void check_type(bool ok, const Parts&... message) {
  if (!ok) [[unlikely]]
    throw TypeError(concat(message...));
}

template <class... Parts>
void check_range(bool ok, const Parts&... message) {
  if (!ok) [[unlikely]]
    throw RangeError(concat(message...));
}

}  // namespace eq
