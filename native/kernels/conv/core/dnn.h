// cuDNN, where it is installed: found with dlopen at the first large convolution, never needed. What it can compute in
// one call is one of the ways that choice.h measures.
//
// Plans are kept in the user's cache folder (equipoise/cudnn-plans/GPU, library/shape.json): cuDNN compiles them.
//
// EQUIPOISE_CUDNN names the library's file (libcudnn.so.9), or is 0 to do without.
#pragma once

#include <string>

#include "runtime/device.h"

namespace eq {
struct ConvArgs;
}

namespace eq::tile {

bool dnn_usable(Device& device);
/// Which library, or why none.
std::string dnn_state();
/// How many plans have been made and read so far.
std::string dnn_plans();

/// Queues y = act(x * f + bias + addend), or dx = dy *^T f where `transposed`. False where it is none of what cuDNN is
/// asked for: the image (x or dy) bf16 as it lies, channels in multiples of eight, a frozen filter (its copy in cuDNN's
/// order [O, R, S, I] is kept with it), a bias per channel, no activation, relu, silu or gelu; for dx no epilogue.
bool dnn_convolution(Device& device, const OpInfo& info, const ConvArgs& args, const Tensor& filter, bool transposed);

}  // namespace eq::tile
