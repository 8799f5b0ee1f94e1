#pragma once

#include "call.h"

namespace eq::addon {

void register_core(Napi::Env env, Napi::Object exports);

}  // namespace eq::addon
