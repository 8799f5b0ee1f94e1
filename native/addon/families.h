// One registration function per kernel family; each lives in addon/ops/<family>.cc.
#pragma once

#include "call.h"

#define EQ_FAMILIES(X) \
  X(activation)        \
  X(adapter)           \
  X(attention)         \
  X(conv)              \
  X(diffusion)         \
  X(elementwise)       \
  X(gemm)              \
  X(image)             \
  X(index)             \
  X(loss)              \
  X(movement)          \
  X(norm)              \
  X(reduce)            \
  X(training)

namespace eq::addon {

#define EQ_DECLARE_FAMILY(name) void register_##name(Napi::Env env, Napi::Object ops);
EQ_FAMILIES(EQ_DECLARE_FAMILY)
#undef EQ_DECLARE_FAMILY

}  // namespace eq::addon
