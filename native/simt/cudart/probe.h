#pragma once

namespace eq {

/// One use of the CUDA runtime that the model must refuse; returns if it did not. False if there is none of this name.
bool probe_mistake(const char* name);
/// One run of native/runtime/cuda; throws where it does not keep its word. False if there is none of this name.
bool probe_runtime(const char* name);

}  // namespace eq
