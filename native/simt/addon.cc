#include "addon/context.h"
#include "kernels/gemm/core/choice.h"
#include "simt/device.h"

namespace eq::addon {

std::shared_ptr<Device> create_device(int) { return simt::SimtDevice::create(); }

Napi::Array list_devices(Napi::Env env) { return Napi::Array::New(env, 0); }

Napi::Object describe_device(Napi::Env env, Device& device) {
  Napi::Object o = Napi::Object::New(env);
  o.Set("device", device.name());
  o.Set("model", "CUDA sources on the host, a thread at a time");
  for (const auto& [name, description] : tile::describe_choices(device)) o.Set(name, description);
  return o;
}

}  // namespace eq::addon
