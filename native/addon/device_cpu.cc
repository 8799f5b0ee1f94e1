#include "context.h"
#include "kernels/gemm/core/dispatch.h"
#include "kernels/isa.h"
#include "runtime/cpu/device.h"

namespace eq::addon {

std::shared_ptr<Device> create_device(int index) {
  check_type(index == 0, "device cpu:", index, ": there is one CPU device");
  return CpuDevice::create();
}

Napi::Array list_devices(Napi::Env env) {
  Napi::Object o = Napi::Object::New(env);
  o.Set("device", "cpu");
  o.Set("model", cpu_features().model);
  o.Set("usable", true);
  Napi::Array all = Napi::Array::New(env, 1);
  all.Set(0u, o);
  return all;
}

Napi::Object describe_device(Napi::Env env, Device& device) {
  const CpuFeatures& f = cpu_features();
  Napi::Object o = Napi::Object::New(env);
  o.Set("device", device.name());
  o.Set("model", f.model);
  o.Set("isa", isa_name(active_isa()));
  o.Set("matrixIsa", matrix_isa_name(matrix_isa()));
  o.Set("avx2", f.avx2);
  o.Set("avx512", f.avx512);
  o.Set("avx512Bf16", f.avx512_bf16);
  o.Set("amxBf16", f.amx_bf16);
  o.Set("threads", cpu(device).pool().size());
  return o;
}

}  // namespace eq::addon
