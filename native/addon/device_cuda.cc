#include "context.h"
#include "kernels/gemm/core/choice.h"
#include "runtime/cuda/device.h"

namespace eq::addon {

namespace {

std::string version_text(int version) { return concat(version / 1000, ".", version % 1000 / 10); }

double gib(std::size_t bytes) { return static_cast<double>(bytes) / static_cast<double>(std::size_t{1} << 30); }

}  // namespace

std::shared_ptr<Device> create_device(int index) { return CudaDevice::create(index); }

Napi::Array list_devices(Napi::Env env) {
  const std::string unusable = cuda_unusable();
  const int count = unusable.empty() ? cuda_device_count() : 0;
  Napi::Array all = Napi::Array::New(env, static_cast<std::size_t>(unusable.empty() ? count : 1));
  if (!unusable.empty()) {
    Napi::Object o = Napi::Object::New(env);
    o.Set("device", "cuda:0");
    o.Set("model", "");
    o.Set("usable", false);
    o.Set("reason", unusable);
    all.Set(0u, o);
  }
  for (int i = 0; i < count; ++i) {
    cudaDeviceProp p{};
    Napi::Object o = Napi::Object::New(env);
    o.Set("device", concat("cuda:", i));
    const cudaError_t status = cudaGetDeviceProperties(&p, i);
    o.Set("model", status == cudaSuccess ? p.name : "");
    o.Set("usable", status == cudaSuccess && p.major >= 8);
    if (status != cudaSuccess)
      o.Set("reason", cudaGetErrorString(status));
    else if (p.major < 8)
      o.Set("reason", concat("compute capability ", p.major, ".", p.minor, ", 8.0 or later is needed"));
    all.Set(static_cast<std::uint32_t>(i), o);
  }
  return all;
}

Napi::Object describe_device(Napi::Env env, Device& device) {
  const cudaDeviceProp& p = cuda(device).properties();
  int driver = 0, runtime = 0;
  cudaDriverGetVersion(&driver);
  cudaRuntimeGetVersion(&runtime);
  Napi::Object o = Napi::Object::New(env);
  o.Set("device", device.name());
  o.Set("model", p.name);
  o.Set("computeCapability", concat(p.major, ".", p.minor));
  o.Set("multiprocessors", p.multiProcessorCount);
  o.Set("memoryGiB", gib(p.totalGlobalMem));
  o.Set("l2MiB", gib(static_cast<std::size_t>(p.l2CacheSize)) * 1024);
  o.Set("driver", concat("CUDA ", version_text(driver)));
  o.Set("runtime", concat("CUDA ", version_text(runtime)));
  for (const auto& [name, description] : tile::describe_choices(device)) o.Set(name, description);
  return o;
}

}  // namespace eq::addon
