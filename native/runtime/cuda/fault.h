// Messages of faults that kernels report (kernel.cuh).
#pragma once

#include <string>

#include "runtime/cuda/kernel.cuh"

namespace eq {

/// "<op> <shapes>: <message>", with the record's values for the message's '%' in turn.
inline std::string fault_message(const OpInfo& info, const char* message, const FaultRecord& record) {
  std::string text = info.describe() + ": ";
  int next = 0;
  for (const char* c = message; *c != '\0'; ++c) {
    if (*c == '%' && next < 3)
      text += std::to_string(record.values[next++]);
    else
      text += *c;
  }
  return text;
}

}  // namespace eq
