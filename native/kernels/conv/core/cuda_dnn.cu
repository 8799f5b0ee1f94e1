// cuDNN through dlopen: dnn.h. No kernels. It has never run on a GPU: its plans have been made by the real library for
// an A100 and an H100 that were not there (tools/gpu/check-libraries.sh), and computed by a stand-in on the host
// (native/simt/libraries/cudnn.cc).
#include "kernels/conv/core/dnn.h"

#include <unistd.h>

#include <array>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <mutex>

#include "kernels/conv/conv2d/op.h"
#include "kernels/conv/core/cudnn_plan.h"
#include "kernels/gemm/core/choice.h"
#include "kernels/gemm/core/tile_gemm.h"
#include "runtime/cuda/external.h"

namespace eq::tile {

namespace {

struct Library {
  cudnn::Api api;
  cudnn::Handle handle = nullptr;
  cudnn::Stream stream = nullptr;  ///< the handle's
  std::string state;
};

Library open_library() {
  Library l;
  const OpenedLibrary opened = OpenedLibrary::open("EQUIPOISE_CUDNN", {"libcudnn.so.9", "libcudnn.so"});
  l.state = opened.state;
  if (!opened.file) return l;
  if (!l.api.load([&](auto& function, const char* name) { return opened.find(function, name); }))
    l.state += " lacks functions";
  else if (const std::size_t version = l.api.version(); version / 10000 != 9)
    l.state += concat(" ", version, " is not of version 9");
  else if (l.api.create(&l.handle) != cudnn::kSuccess)
    l.handle = nullptr, l.state += " cannot be initialised";
  else
    l.state += concat(" ", version);
  return l;
}
Library& library() {
  static Library one = open_library();
  return one;
}

/// Whether one plan of cuDNN's can say it; `image` is what the plan reads as x or dy.
bool expressible(const ConvArgs& args, const Tensor& filter, bool transposed) {
  const ConvGeometry& g = args.geometry;
  const EpilogueArgs& e = args.epilogue;
  const auto aligned = [](const void* p) {
    return reinterpret_cast<std::uintptr_t>(p) % static_cast<std::uintptr_t>(DnnPlan::kAlignment) == 0;
  };
  const bool operands = filter.buffer->frozen && args.x_dtype == DType::BF16 && g.channels % 8 == 0 &&
                        g.out_channels % 8 == 0 && aligned(args.x) && aligned(args.y);
  if (transposed) return operands && e.trivial();
  const bool addend = !e.addend || (e.beta == 1.0f && aligned(e.addend));
  const bool activation = e.activation == FusedActivation::None || e.activation == FusedActivation::Relu ||
                          e.activation == FusedActivation::Silu || e.activation == FusedActivation::Gelu;
  return operands && activation && addend && !e.bias.scalar && aligned(e.bias.data) && !e.column_scale.data &&
         e.scale == 1.0f;
}

/// The filter [R, S, I, O] as [O, R, S, I], made once and kept with it.
Tensor reordered(Device& device, const OpInfo& info, const ConvArgs& args, const Tensor& filter) {
  const ConvGeometry& g = args.geometry;
  const std::int64_t taps = g.filter_height * g.filter_width;
  return pack_weight(device, info,
                     {args.filter,
                      args.filter_dtype,
                      {g.out_channels, taps, 1},
                      {1, g.channels * g.out_channels, 0},
                      taps,
                      g.channels,
                      g.channels,
                      g.out_channels},
                     DType::BF16, filter, 'd');
}

using PlanKey = std::array<std::int64_t, 22>;
PlanKey plan_key(const DnnConvolution& c) {
  const ConvGeometry& g = c.geometry;
  return {g.batch,
          g.height,
          g.width,
          g.channels,
          g.out_height,
          g.out_width,
          g.out_channels,
          g.filter_height,
          g.filter_width,
          g.stride_height,
          g.stride_width,
          g.top,
          g.dilation_height,
          g.dilation_width,
          g.left,
          c.transposed,
          c.bias,
          c.addend,
          static_cast<std::int64_t>(c.activation),
          static_cast<std::int64_t>(c.bias_type),
          static_cast<std::int64_t>(c.addend_type),
          static_cast<std::int64_t>(c.result_type)};
}

std::atomic<int> made{0}, taken{0};

/// Where the plan of a shape is kept; empty where nowhere.
std::filesystem::path file_of(Device& device, const Library& l, const PlanKey& key) {
  const std::filesystem::path cache = cache_folder();
  if (cache.empty()) return cache;
  std::string name;
  for (const std::int64_t number : key) name += concat(name.empty() ? "" : "-", number);
  return cache / "cudnn-plans" / concat(device_model(device), ", cuDNN ", l.api.version()) / (name + ".json");
}

std::unique_ptr<DnnPlan> read_plan(const Library& l, const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  if (!in) return nullptr;
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  return DnnPlan::read(l.api, {l.handle, nullptr}, text);
}

/// A file that cannot be written costs the next process its own plan, no more. It is there whole or not at all.
void keep_plan(const DnnPlan& plan, const std::filesystem::path& file) {
  const std::string text = plan.text();
  if (file.empty() || text.empty()) return;
  std::error_code ignored;
  std::filesystem::create_directories(file.parent_path(), ignored);
  std::filesystem::path part = file;
  part += concat(".", getpid());
  std::ofstream out(part, std::ios::binary);
  out.write(text.data(), static_cast<std::streamsize>(text.size()));
  out.close();
  if (out)
    std::filesystem::rename(part, file, ignored);
  else
    std::filesystem::remove(part, ignored);
}

/// The plan of a shape, made or read once; null where there is none, or none can be made now.
const DnnPlan* plan_of(Device& device, const Library& l, const DnnConvolution& c) {
  static std::mutex mutex;
  // Never destroyed: at the end of the process the library may be gone before them.
  static auto& plans = *new std::map<PlanKey, std::unique_ptr<DnnPlan>>;
  const std::lock_guard lock(mutex);
  const PlanKey key = plan_key(c);
  const auto it = plans.find(key);
  if (it != plans.end()) return it->second.get();
  // Making a plan loads code, which is no part of a graph.
  if (device.recording()) return nullptr;
  const std::filesystem::path file = file_of(device, l, key);
  std::unique_ptr<DnnPlan> plan = read_plan(l, file);
  if (plan) {
    ++taken;
  } else if ((plan = DnnPlan::make(l.api, {l.handle, nullptr}, c))) {
    ++made;
    keep_plan(*plan, file);
  }
  return plans.emplace(key, std::move(plan)).first->second.get();
}

}  // namespace

bool dnn_usable(Device&) { return library().handle != nullptr; }
std::string dnn_state() { return library().state; }
std::string dnn_plans() { return concat(made.load(), " made, ", taken.load(), " read"); }

bool dnn_convolution(Device& device, const OpInfo& info, const ConvArgs& args, const Tensor& filter, bool transposed) {
  Library& l = library();
  if (!l.handle || !expressible(args, filter, transposed)) return false;
  const EpilogueArgs& e = args.epilogue;
  const DnnPlan* plan = plan_of(device, l,
                                {args.geometry, transposed, args.y_dtype, e.bias.data != nullptr, e.addend != nullptr,
                                 e.bias.dtype, e.addend_dtype, e.activation});
  if (!plan) return false;
  const Tensor weight = reordered(device, info, args, filter);
  const Tensor workspace = device.empty(DType::Bool, {plan->workspace()});
  return launch_external(device, info, [&] {
    // Once: told of its stream, the library may wait for work, which a recording must not.
    cudnn::Stream stream = external_stream(device);
    if (l.stream != stream && l.api.set_stream(l.handle, stream) != cudnn::kSuccess) return false;
    l.stream = stream;
    return plan->run(l.handle, {args.x, weight.data(), args.y, e.bias.data, e.addend}, workspace.data());
  });
}

}  // namespace eq::tile
