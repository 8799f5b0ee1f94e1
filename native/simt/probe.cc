// What the shim must find: each probe is a kernel with one mistake, or with none. `simt_probe NAME` prints the error.
#include <cstdio>
#include <cstring>

#include "runtime/cuda/kernel.cuh"
#include "runtime/cuda/reduce.cuh"
#include "simt/device.h"
#include "simt/probe.h"

namespace eq {
namespace {

struct Probe {
  float* x;
  float* y;
  int n;
};

__global__ void sound(Probe p) {
  __shared__ float sums[2];
  const float sum = block_sum<64>(p.x[threadIdx.x], sums);
  p.y[threadIdx.x] = sum + static_cast<float>(__ballot_sync(kFullWarp, threadIdx.x % 2 == 0) == 0x55555555u);
}
__global__ void reads_past_the_end(Probe p) { p.y[threadIdx.x] = p.x[threadIdx.x + p.n]; }
__global__ void reads_before_the_start(Probe p) { p.y[threadIdx.x] = p.x[static_cast<int>(threadIdx.x) - 1024]; }
__global__ void writes_a_word_too_many(Probe p) {
  p.y[threadIdx.x] = 0;
  if (threadIdx.x == 0) p.y[-1] = 1;
}
__global__ void leaves_a_barrier_out(Probe p) {
  float* shared = dynamic_shared<float>();
  shared[threadIdx.x] = p.x[threadIdx.x];
  p.y[threadIdx.x] = shared[63 - threadIdx.x];
}
__global__ void overruns_shared(Probe p) { dynamic_shared<float>()[threadIdx.x + 32] = p.x[threadIdx.x]; }
__global__ void waits_for_ever(Probe p) {
  if (threadIdx.x < 32) __syncthreads();
  p.y[threadIdx.x] = __shfl_sync(threadIdx.x < 32 ? kFullWarp : 0x1u, p.x[0], 0);
}
__global__ void leaves_an_element_out(Probe p) {
  if (threadIdx.x != 9) p.y[threadIdx.x] = p.x[threadIdx.x];
}
__global__ void raises(Probe p, Fault fault) {
  if (threadIdx.x == 5) raise(fault, 5, p.n);
}

int run(const char* name) {
  auto device = simt::SimtDevice::create();
  const Tensor x = device->empty(DType::F32, {64}), y = device->empty(DType::F32, {64});
  float values[64];
  for (int i = 0; i < 64; ++i) values[i] = static_cast<float>(i);
  device->upload(x, values, DType::F32);
  const Probe p{x.data<float>(), y.data<float>(), 64};
  const OpInfo info("Probe", {x.shape});
  const auto launch = [&](void (*kernel)(Probe), unsigned shared = 0) {
    // Twice, for both orders of execution.
    for (int i = 0; i < 2; ++i) {
      launch_kernel(*device, info, kernel, {.grid_x = 1, .block = 64, .shared = shared}, p);
      float out[64];
      device->read(y, out, [](std::string fault) {
        if (!fault.empty()) throw std::runtime_error(fault);
      });
      for (int j = 0; j < 64; ++j)
        if (out[j] != out[j]) throw std::runtime_error(concat("y[", j, "] is NaN"));
      if (kernel == sound && out[7] != 2017.0f) throw std::runtime_error(concat("y[7] is ", out[7]));
    }
  };
  const auto is = [name](const char* probe) { return std::strcmp(name, probe) == 0; };
  try {
    if (is("sound"))
      launch(sound);
    else if (is("reads_past_the_end"))
      launch(reads_past_the_end);
    else if (is("reads_before_the_start"))
      launch(reads_before_the_start);
    else if (is("writes_a_word_too_many"))
      launch(writes_a_word_too_many);
    else if (is("leaves_a_barrier_out"))
      launch(leaves_a_barrier_out, 256);
    else if (is("overruns_shared"))
      launch(overruns_shared, 256);
    else if (is("waits_for_ever"))
      launch(waits_for_ever);
    else if (is("leaves_an_element_out"))
      launch(leaves_an_element_out);
    else if (is("raises")) {
      launch_kernel(*device, info, raises, {.grid_x = 1, .block = 64}, p, fault_site(*device, info, "index % of %"));
      device->synchronize();
    } else if (!probe_hopper(*device, name) && !probe_races(*device, name)) {
      return 2;
    }
  } catch (const std::exception& e) {
    std::puts(e.what());
    return 0;
  }
  // Overruns that stayed within the page are found when the memory is given back.
  const Tensor last = device->empty(DType::Bool, {1});
  const_cast<Tensor&>(y).buffer.reset();
  try {
    device->synchronize();
  } catch (const std::exception& e) {
    std::puts(e.what());
    return 0;
  }
  std::puts("nothing found");
  return 0;
}

}  // namespace
}  // namespace eq

int main(int argc, char** argv) { return argc == 2 ? eq::run(argv[1]) : 2; }
