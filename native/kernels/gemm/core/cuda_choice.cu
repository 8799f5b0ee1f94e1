// The choice among several ways of one product: choice.h. No kernels.
#include "runtime/cuda/kernel.cuh"

#include "kernels/conv/core/dnn.h"
#include "kernels/gemm/core/blas.h"
#include "kernels/gemm/core/choice.h"
#include "kernels/gemm/core/wgmma.h"

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <mutex>
#include <sstream>

// The shim has no clock; the runtime on the model of a GPU (simt/cudart) has one.
#if defined(EQ_CUDA_MODEL)
#include "runtime/cuda/device.h"
namespace eq {
cudaStream_t stream(Device& device);
void check_cuda(cudaError_t status, const char* op);
}  // namespace eq
#endif
#if EQ_SIMT && !defined(EQ_CUDA_MODEL)
#define EQ_MEASURES 0
#else
#define EQ_MEASURES 1
#endif

namespace eq::tile {

namespace {

struct Choice {
  std::string way, story;
};

/// How often the way that is asked for was taken, and how often it was not able.
std::atomic<std::uint64_t> forced_able{0}, forced_unable{0};

#if EQ_MEASURES

constexpr int kRuns = 5;

bool tuning() {
  const char* wanted = std::getenv("EQUIPOISE_CUDA_TUNE");
  return !wanted || std::strcmp(wanted, "1") == 0;
}

/// The file of choices; empty where there is no home for it.
std::filesystem::path cache_file() {
  const std::filesystem::path folder = cache_folder();
  return folder.empty() ? folder : folder / "cuda-choices.tsv";
}

/// What the choices of this process depend on besides the shape. A new way, or another GPU, measures anew.
std::string circumstances(Device& device) {
  cudaDeviceProp properties{};
  int ordinal = 0;
  check_cuda(cudaGetDevice(&ordinal), "device");
  check_cuda(cudaGetDeviceProperties(&properties, ordinal), "device");
  return concat(properties.name, ", cuBLASLt ", blas_usable(device) ? blas_state() : "none", ", cuDNN ",
                dnn_usable(device) ? dnn_state() : "none", ", wgmma ", wgmma_usable(device) ? "on" : "off");
}

/// The choices of one GPU: read from the file once, added to as they are made. Used by one thread at a time.
class Choices {
 public:
  explicit Choices(std::string where) : where_(std::move(where)), file_(cache_file()) {
    std::ifstream in(file_);
    for (std::string line; std::getline(in, line);) {
      std::istringstream fields(line);
      std::string where, shape;
      Choice choice;
      if (std::getline(fields, where, '\t') && std::getline(fields, shape, '\t') &&
          std::getline(fields, choice.way, '\t') && std::getline(fields, choice.story, '\t') && where == where_)
        all_[shape] = choice;
    }
  }
  const Choice* find(const std::string& shape) const {
    const auto it = all_.find(shape);
    return it == all_.end() ? nullptr : &it->second;
  }
  /// A file that cannot be written costs the next process its own measurement, no more.
  const Choice* add(const std::string& shape, Choice choice) {
    if (!file_.empty()) {
      std::error_code ignored;
      std::filesystem::create_directories(file_.parent_path(), ignored);
      std::ofstream(file_, std::ios::app) << where_ + '\t' + shape + '\t' + choice.way + '\t' + choice.story + '\n'
                                          << std::flush;
    }
    return &(all_[shape] = std::move(choice));
  }
  const std::map<std::string, Choice>& all() const { return all_; }

 private:
  std::string where_;
  std::filesystem::path file_;
  std::map<std::string, Choice> all_;
};

std::mutex mutex;
/// The choices of a device; the mutex is held.
Choices& known(Device& device) {
  static std::map<std::string, Choices> devices;
  const auto it = devices.find(device.name());
  return it != devices.end() ? it->second
                             : devices.emplace(device.name(), Choices(circumstances(device))).first->second;
}

/// Events of one measurement.
class Stopwatch {
 public:
  explicit Stopwatch(Device& device) : device_(device) {
    check_cuda(cudaEventCreate(&start_), "timing");
    check_cuda(cudaEventCreate(&end_), "timing");
  }
  ~Stopwatch() {
    cudaEventDestroy(start_);
    cudaEventDestroy(end_);
  }
  /// Microseconds of one run; negative where the way is not able.
  float time(const Way& way) {
    if (!way.run()) return -1.0f;
    check_cuda(cudaEventRecord(start_, stream(device_)), "timing");
    for (int i = 0; i < kRuns; ++i) way.run();
    check_cuda(cudaEventRecord(end_, stream(device_)), "timing");
    check_cuda(cudaEventSynchronize(end_), "timing");
    float milliseconds = 0.0f;
    check_cuda(cudaEventElapsedTime(&milliseconds, start_, end_), "timing");
    return milliseconds * 1000.0f / kRuns;
  }

 private:
  Device& device_;
  cudaEvent_t start_ = nullptr, end_ = nullptr;
};

Choice measure(Device& device, const std::vector<Way>& ways) {
  Stopwatch watch(device);
  Choice best;
  float least = -1.0f;
  for (const Way& way : ways) {
    const float time = watch.time(way);
    char text[64];
    if (time < 0.0f)
      std::snprintf(text, sizeof text, "%s not able", way.name);
    else
      std::snprintf(text, sizeof text, "%s %.1f us", way.name, static_cast<double>(time));
    best.story.append(best.story.empty() ? "" : ", ").append(text);
    if (time < 0.0f || (least >= 0.0f && time >= least)) continue;
    least = time;
    best.way = way.name;
  }
  return best;
}

#endif

}  // namespace

std::filesystem::path cache_folder() {
  const char* cache = std::getenv("XDG_CACHE_HOME");
  const char* home = std::getenv("HOME");
  if (cache && *cache) return std::filesystem::path(cache) / "equipoise";
  if (home && *home) return std::filesystem::path(home) / ".cache" / "equipoise";
  return {};
}

std::string forced_way() {
  const char* wanted = std::getenv("EQUIPOISE_CUDA_TUNE");
  return wanted && std::strcmp(wanted, "0") != 0 && std::strcmp(wanted, "1") != 0 ? wanted : "";
}
bool worth_choosing(double flops) { return flops >= 1e8 || !forced_way().empty(); }

void run_fastest(Device& device, const OpInfo& info, const std::string& shape, const std::vector<Way>& ways) {
  std::string chosen = ways.front().name;
  if (const std::string forced = forced_way(); !forced.empty()) {
    for (const Way& way : ways)
      if (forced == way.name && way.run()) return void(++forced_able);
    ++forced_unable;
  }
#if !EQ_MEASURES
  (void)device;
  (void)shape;
#else
  if (ways.size() > 1 && tuning()) {
    const std::lock_guard lock(mutex);
    Choices& choices = known(device);
    const Choice* choice = choices.find(shape);
    if (!choice && !recording(device)) {
      // The trial runs are no part of a profile.
      const bool profiled = device.profiler().enabled();
      device.profiler().enable(false);
      choice = choices.add(shape, measure(device, ways));
      device.profiler().enable(profiled);
    }
    if (choice) chosen = choice->way;
  }
#endif
  for (const Way& way : ways)
    if (chosen == way.name && way.run()) return;
  // The chosen way may be unable this once (an operand elsewhere aligned): the first one never is.
  if (!ways.front().run()) throw RangeError(concat(info.name, ": internal: no kernel for ", shape));
}

std::vector<std::pair<std::string, std::string>> describe_choices(Device& device) {
  std::vector<std::pair<std::string, std::string>> all{
      {"cuBLASLt", blas_usable(device) ? blas_state() : "none: " + blas_state()}};
  all.emplace_back("cuDNN", dnn_usable(device) ? dnn_state() : "none: " + dnn_state());
  if (dnn_usable(device)) all.emplace_back("cuDNN plans", dnn_plans());
  wgmma_usable(device);
  all.emplace_back("wgmma", wgmma_state());
  if (const std::string forced = forced_way(); !forced.empty())
    all.emplace_back("forced", concat(forced, ": ", forced_able.load(), " products, unable ", forced_unable.load()));
#if EQ_MEASURES
  const std::lock_guard lock(mutex);
  for (const auto& [shape, choice] : known(device).all())
    all.emplace_back(shape, choice.way + " (" + choice.story + ")");
#endif
  return all;
}

}  // namespace eq::tile
