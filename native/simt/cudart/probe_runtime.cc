// native/runtime/cuda on the model of a GPU: each probe is one thing that it promises. Device 1, so that a thread that
// never chose its device is found.
#include <cstdio>
#include <cstring>
#include <future>
#include <thread>

#include "runtime/cuda/device.h"
#include "simt/cudart/model.h"
#include "simt/cudart/probe.h"

namespace eq {

namespace {

using Floats = std::vector<float>;
using DevicePointer = std::shared_ptr<CudaDevice>;
const OpInfo kInfo("Probe", {});

template <class... T>
void require(bool condition, const T&... text) {
  if (!condition) throw std::runtime_error(concat(text...));
}
template <class Function>
void require_error(Function&& function, const char* expected) {
  try {
    function();
  } catch (const std::exception& e) {
    require(std::strstr(e.what(), expected) != nullptr, "expected \"", expected, "\", got \"", e.what(), "\"");
    return;
  }
  throw std::runtime_error(concat("no error: expected \"", expected, "\""));
}

__global__ void add_kernel(float* y, const float* x, float value, std::int64_t n) {
  for (std::int64_t i = blockIdx.x * std::int64_t{blockDim.x} + threadIdx.x; i < n;
       i += std::int64_t{gridDim.x} * blockDim.x)
    y[i] = x[i] + value;
}
__global__ void raise_kernel(Fault fault, long long value) { raise(fault, value); }
__global__ void large_kernel(float* y) { *y = dynamic_shared<float>()[0] = 1; }

Tensor numbers(CudaDevice& device, std::int64_t n, float value) {
  const Tensor t = device.empty(DType::F32, {n});
  device.upload(t, Floats(static_cast<std::size_t>(n), value).data(), DType::F32);
  return t;
}
void add(CudaDevice& device, const Tensor& y, const Tensor& x, float value) {
  launch_kernel(device, kInfo, add_kernel, {.grid_x = 2, .block = 64}, y.data<float>(), x.data<float>(), value,
                x.numel());
}
Tensor plus(CudaDevice& device, const Tensor& x, float value) {
  const Tensor y = device.empty(DType::F32, x.shape);
  add(device, y, x, value);
  return y;
}
struct Read {
  Floats values;
  std::promise<std::string> told;
  std::future<std::string> fault = told.get_future();
};
/// Starts a read, as JavaScript does.
std::unique_ptr<Read> start_read(CudaDevice& device, const Tensor& t) {
  auto read = std::make_unique<Read>();
  read->values.resize(static_cast<std::size_t>(t.numel()));
  device.read(t, read->values.data(), [r = read.get()](std::string fault) { r->told.set_value(std::move(fault)); });
  return read;
}
void expect(CudaDevice& device, const Tensor& t, float value) {
  const auto read = start_read(device, t);
  const std::string fault = read->fault.get();
  require(fault.empty(), "a read tells of \"", fault, "\"");
  for (const float x : read->values) require(x == value, "read ", x, " instead of ", value);
}

/// More than may be under way at a time, in pieces, from memory that goes at once; other storages.
void uploads(DevicePointer device) {
  std::vector<Tensor> all;
  for (int i = 0; i < 5; ++i) all.push_back(numbers(*device, (4 << 20) + 100 + i, static_cast<float>(i)));
  expect(*device, all[0], 0);
  expect(*device, all[4], 4);
  const Tensor half = device->empty(DType::BF16, {1000});
  device->upload(half, Floats(1000, 1.5f).data(), DType::F32);
  expect(*device, half, 1.5f);
  for (int i = 0; i < 300; ++i) numbers(*device, 10 + i % 7, 1);
  expect(*device, device->empty(DType::F32, {0}), 0);
}

/// Memory given back while work that uses it is queued, and used again by what is queued later.
void reuse(DevicePointer device) {
  const Tensor one = numbers(*device, 5000, 1);
  Tensor last = one;
  for (int i = 0; i < 50; ++i) last = plus(*device, last, 1);
  require(device->memory().stats().cache_hits > 40, "temporaries do not share memory");
  expect(*device, last, 51);
}

/// Memory goes back to the system only when the work on it is done: asked for, and above what is kept.
void frees(DevicePointer device) {
  const Tensor one = numbers(*device, 1000, 1);
  const Tensor kept = plus(*device, one, 2);
  plus(*device, one, 3);
  device->memory().trim(0);
  require(device->memory().stats().cached == 0, "trim leaves memory");
  expect(*device, kept, 3);
  constexpr std::int64_t kLarge = 80 << 20;  // of 320 MB
  Tensor large = device->empty(DType::F32, {kLarge});
  for (int i = 0; i < 3; ++i) {
    launch_kernel(*device, kInfo, add_kernel, {.grid_x = 1, .block = 32}, large.data<float>(), one.data<float>(), 1.0f,
                  std::int64_t{1000});
    large = device->empty(DType::F32, {kLarge + (i + 1) * (24 << 20)});
    device->synchronize();
  }
}

/// A GPU with little memory: what is cached makes room, and beyond that there is an error that costs nothing.
void out_of_memory(DevicePointer device) {
  device.reset();
  cudart::model().capacity = 64 << 20;
  device = CudaDevice::create(1);
  const Tensor one = numbers(*device, 4 << 20, 1);
  {
    const Tensor two = plus(*device, one, 1);
  }
  const Tensor large = device->empty(DType::F32, {9 << 20});
  require_error([&] { device->empty(DType::F32, {9 << 20}); }, "exceeds the memory limit");
  cudart::refuse("cudaMalloc", 2);
  require_error([&] { device->empty(DType::F32, {1000}); }, "the system refused 4000 bytes");
  cudart::refuse("cudaHostAlloc", 1);
  require_error([&] { numbers(*device, 1 << 18, 1); }, "page-locked memory");
  cudart::refuse("cudaHostAlloc", 1);
  const auto read = start_read(*device, device->empty(DType::F32, {300000}));
  require(read->fault.get().find("page-locked memory") != std::string::npos, "a read without memory tells nothing");
  expect(*device, one, 1);
}

/// What ran once runs again with other values: launches, uploads, tables, memory taken and given back meanwhile.
void graphs(DevicePointer device) {
  const Tensor x = numbers(*device, 3000, 1), weight = numbers(*device, 3000, 5);
  Tensor y;
  const auto compute = [&] {
    const Tensor constant = numbers(*device, 3000, 3);
    const std::int64_t table[] = {1, 2, 3};
    const Tensor staged = device->stage(table, sizeof table);
    device->keep(weight.buffer);
    Tensor sum = plus(*device, plus(*device, x, 1), 2);
    const Tensor copied = device->empty(DType::F32, {3000});
    device->copy(copied, weight);
    device->fill(sum.data(), 0, 4);
    add(*device, sum, x, 4);
    y = plus(*device, constant, 1);
    add(*device, y, sum, 1);
  };
  compute();
  Tensor unused = plus(*device, x, 1);
  device->begin_recording();
  device->keep(x.buffer);
  compute();
  // Neither of these may wait for the stream.
  unused = {};
  device->memory().trim(0);
  const Tensor fresh = device->empty(DType::F32, {1 << 20});
  require_error([&] { device->synchronize(); }, "values exist only when");
  require_error([&] { device->begin_recording(); }, "being recorded already");
  std::unique_ptr<Recording> graph = device->end_recording();
  for (const float value : {10.0f, 20.0f}) {
    device->copy(x, numbers(*device, 3000, value));
    graph->replay();
    for (int i = 0; i < 20; ++i) numbers(*device, 3000, 77);
    graph->replay();
    expect(*device, y, value + 5);
  }
  require(device->memory().stats().held > 0, "a graph's memory is not kept");
  graph->replay();
  graph.reset();
  require(device->memory().stats().held == 0, "a graph's memory is not given back");
  expect(*device, y, 25);
}

/// Graphs that end at inconvenient times.
void graph_ends(DevicePointer device) {
  const Tensor x = numbers(*device, 100, 1), y = numbers(*device, 100, 2);
  const auto recorded = [&] {
    device->begin_recording();
    add(*device, y, x, 1);
    numbers(*device, 100, 3);
    return device->end_recording();
  };
  auto first = recorded();
  first->replay();
  device->begin_recording();
  first.reset();  // while another is recorded
  require_error([&] { device->end_recording(), device->end_recording(); }, "no graph is being recorded");
  auto second = recorded();
  device->begin_recording();
  require_error([&] { second->replay(); }, "while another is being recorded");
  device->abandon_recording();
  device->abandon_recording();
  second->replay();
  expect(*device, y, 2);
  second->replay();
  // The graph holds the device.
  device.reset();
}

/// A fault is told once, by the first read behind the kernel that met it.
void faults(DevicePointer device) {
  const Tensor x = numbers(*device, 10, 1);
  const auto meet = [&](long long value) {
    launch_kernel(*device, kInfo, raise_kernel, {.grid_x = 1, .block = 1},
                  device->fault_site(kInfo, "index % is outside"), value);
  };
  const auto before = start_read(*device, x);
  meet(7);
  const auto after = start_read(*device, x);
  meet(8);
  require(before->fault.get().empty(), "told too early");
  require(after->fault.get() == "Probe: index 7 is outside", "not told");
  require_error([&] { device->synchronize(); }, "index 8 is outside");
  device->synchronize();
  device->begin_recording();
  meet(9);
  const auto graph = device->end_recording();
  device->synchronize();
  for (int i = 0; i < 2; ++i) {
    graph->replay();
    require_error([&] { device->synchronize(); }, "index 9 is outside");
  }
}

/// An access outside ends the device: everything after says so, and nothing hangs.
void broken_device(DevicePointer device) {
  const Tensor x = numbers(*device, 10, 1), y = device->empty(DType::F32, {10});
  launch_kernel(*device, kInfo, add_kernel, {.grid_x = 1, .block = 32}, y.data<float>() + (1 << 20), x.data<float>(),
                1.0f, x.numel());
  const auto read = start_read(*device, y);
  require(read->fault.get().find("an illegal memory access") != std::string::npos, "a read does not tell");
  require_error([&] { device->synchronize(); }, "illegal memory access");
  require_error([&] { numbers(*device, 10, 1); }, "illegal memory access");
  require_error([&] { add(*device, y, x, 1); }, "Probe: an illegal memory access");
  require_error([&] { device->begin_recording(); }, "illegal memory access");
}

/// Shared memory above 48 KiB is asked for, kernel by kernel.
void shared_memory(DevicePointer device) {
  const Tensor y = device->empty(DType::F32, {1});
  for (const unsigned bytes : {1024u, 49153u, 64u << 10, 163u << 10, 50000u})
    launch_kernel(*device, kInfo, large_kernel, {.grid_x = 1, .block = 1, .shared = bytes}, y.data<float>());
  expect(*device, y, 1);
  require_error(
      [&] {
        launch_kernel(*device, kInfo, large_kernel, {.grid_x = 1, .block = 1, .shared = 164u << 10}, y.data<float>());
      },
      "Probe: cudaErrorInvalidValue");
  launch_kernel(*device, kInfo, large_kernel, {.grid_x = 0, .block = 1}, y.data<float>());
  expect(*device, y, 1);
}

/// Launches of one op within a call are one range; what is recorded is in none.
void profile(DevicePointer device) {
  const Tensor x = numbers(*device, 1000, 1);
  device->profiler().enable(true);
  for (int round = 0; round < 3; ++round) {
    device->begin_call();
    Tensor y = plus(*device, plus(*device, x, 1), 1);
    device->begin_call();
    device->launch_external(OpInfo("External", {}), [] { return true; });
    device->begin_recording();
    add(*device, y, x, 1);
    device->flush_profile();
    const auto graph = device->end_recording();
    graph->replay();
    const auto ranges = device->profiler().take();
    require(ranges.size() == 2 && ranges[0].op == "Probe" && ranges[1].op == "External", ranges.size(), " ranges");
    require(ranges[0].start_ns <= ranges[0].end_ns && ranges[0].end_ns <= ranges[1].start_ns, "out of order");
  }
  device->launch_external(OpInfo("Left", {}), [] { return true; });
}

/// Whatever call fails, and whenever: there is an error, the device works on, and nothing is lost.
void refusals(DevicePointer device) {
  const auto everything = [&] {
    const Tensor x = numbers(*device, 100, 1), y = numbers(*device, 100, 2);
    device->fill(y.data(), 0, 4);
    device->profiler().enable(true);
    device->begin_call();
    launch_kernel(*device, kInfo, large_kernel, {.grid_x = 1, .block = 1, .shared = 60u << 10}, y.data<float>());
    device->flush_profile();
    device->profiler().enable(false);
    device->begin_recording();
    add(*device, y, numbers(*device, 100, 3), 1);
    const auto graph = device->end_recording();
    graph->replay();
    device->copy(x, y);
    const auto read = start_read(*device, x);
    if (const std::string fault = read->fault.get(); !fault.empty()) throw std::runtime_error(fault);
    device->synchronize();
  };
  everything();
  for (const char* call : {"cudaMalloc", "cudaHostAlloc", "cudaMemcpyAsync", "cudaMemsetAsync", "cudaLaunchKernel",
                           "cudaFuncSetAttribute", "cudaEventCreate", "cudaEventCreateWithFlags", "cudaEventRecord",
                           "cudaEventSynchronize", "cudaEventElapsedTime", "cudaStreamBeginCapture",
                           "cudaStreamEndCapture", "cudaGraphInstantiate", "cudaGraphLaunch"}) {
    for (int after = 0; after < 12; ++after) {
      cudart::refuse(call, 1, after);
      try {
        everything();
      } catch (const std::exception& e) {
        require(std::strstr(e.what(), "memory"), call, ": ", e.what());
      }
      device->abandon_recording();
      cudart::refuse(call, 0);
      try {
        device->synchronize();  // tells what no call could
      } catch (const std::exception&) {
      }
      expect(*device, plus(*device, numbers(*device, 10, 1), 1), 2);
    }
  }
  for (const char* call : {"cudaStreamCreateWithFlags", "cudaMalloc", "cudaMemsetAsync", "cudaMemGetInfo"}) {
    cudart::refuse(call, 1);
    require_error([] { CudaDevice::create(1); }, "memory");
  }
}

/// Two GPUs, each used by a thread of its own, with reads under way.
void two_devices(DevicePointer device) {
  device.reset();
  std::vector<std::future<void>> threads;
  for (int ordinal = 0; ordinal < 2; ++ordinal)
    threads.push_back(std::async(std::launch::async, [ordinal] {
      const DevicePointer device = CudaDevice::create(ordinal);
      for (int round = 0; round < 20; ++round) {
        Tensor t = numbers(*device, 2000 + round, static_cast<float>(ordinal));
        std::vector<std::unique_ptr<Read>> reads;
        for (int i = 0; i < 10; ++i) {
          t = plus(*device, t, 1);
          reads.push_back(start_read(*device, t));
        }
        if (round % 3 == 0) device->memory().trim(0);
        for (int i = 0; i < 10; ++i) {
          Read& read = *reads[static_cast<std::size_t>(i)];
          require(read.fault.get().empty() && read.values.back() == static_cast<float>(ordinal + i + 1),
                  "wrong values");
        }
      }
    }));
  for (auto& thread : threads) thread.get();
  require_error([] { CudaDevice::create(2); }, "this machine has 2 GPUs");
}

/// The device goes while reads are under way: they are answered.
void reads_at_the_end(DevicePointer device) {
  std::vector<std::unique_ptr<Read>> reads;
  Tensor t = numbers(*device, 1000, 2);
  for (int i = 0; i < 30; ++i) reads.push_back(start_read(*device, t));
  t = {};
  device.reset();
  for (const auto& read : reads) require(read->fault.get().empty() && read->values[999] == 2, "a read was dropped");
}

struct Promise {
  const char* name;
  void (*keep)(DevicePointer);
};
#define EQ_PROMISE(name) {#name, name}
constexpr Promise kPromises[] = {
    EQ_PROMISE(uploads),          EQ_PROMISE(reuse),      EQ_PROMISE(frees),    EQ_PROMISE(out_of_memory),
    EQ_PROMISE(graphs),           EQ_PROMISE(graph_ends), EQ_PROMISE(faults),   EQ_PROMISE(broken_device),
    EQ_PROMISE(shared_memory),    EQ_PROMISE(profile),    EQ_PROMISE(refusals), EQ_PROMISE(two_devices),
    EQ_PROMISE(reads_at_the_end),
};
#undef EQ_PROMISE

}  // namespace

bool probe_runtime(const char* name) {
  for (const Promise& promise : kPromises) {
    if (std::strcmp(name, promise.name) != 0) continue;
    promise.keep(CudaDevice::create(1));
    return true;
  }
  return false;
}

}  // namespace eq
