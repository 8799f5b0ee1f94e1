// cuda_runtime_probe NAME: probe.h. Prints what went wrong, or "nothing found".
#include "simt/cudart/probe.h"

#include <cstdio>
#include <exception>

#include "simt/cudart/model.h"

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  try {
    if (!eq::probe_mistake(argv[1]) && !eq::probe_runtime(argv[1])) return 2;
    std::printf("nothing found, %s\n", eq::cudart::left_over().c_str());
  } catch (const std::exception& e) {
    std::puts(e.what());
  }
}
