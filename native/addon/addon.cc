// Entry point of both addons: registers, nothing else.
#include "core.h"
#include "families.h"

static Napi::Object init(Napi::Env env, Napi::Object exports) {
  env.SetInstanceData(new eq::addon::Context(env));
  eq::addon::register_core(env, exports);
  Napi::Object ops = Napi::Object::New(env);
#define EQ_REGISTER_FAMILY(name) eq::addon::register_##name(env, ops);
  EQ_FAMILIES(EQ_REGISTER_FAMILY)
#undef EQ_REGISTER_FAMILY
  exports.Set("ops", ops);
  return exports;
}

NODE_API_MODULE(NODE_GYP_MODULE_NAME, init)
