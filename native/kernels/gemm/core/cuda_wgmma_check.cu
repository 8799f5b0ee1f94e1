// Whether the sm_90a kernel may serve: its results must agree with the mma.sync kernel's on the GPU at hand.
//
// A kernel that traps ends all of its process's use of the GPU, and one that hangs cannot be stopped from within. So
// the check is made by a process of its own, once a GPU, driver and build of this addon; its verdict is kept in the
// user's cache folder (equipoise/cuda-wgmma.tsv: circumstances, verdict). That process is this one's program, Node,
// which loads this addon with EQUIPOISE_CUDA_WGMMA=1: what is asked for by that is checked where it runs.
#include "kernels/gemm/core/choice.h"
#include "kernels/gemm/core/wgmma.h"
#include "runtime/cuda/external.h"
#include "runtime/cuda/kernel.cuh"

#include <dlfcn.h>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string_view>
#include <vector>

namespace eq::tile {

namespace {

// The check.

#if EQ_SIMT
/// For the tests of what follows: EQUIPOISE_SIMT_WGMMA names what the kernel does wrong.
void misbehave() {
  const char* wanted = std::getenv("EQUIPOISE_SIMT_WGMMA");
  const std::string_view how = wanted ? wanted : "";
  if (how == "trap") std::abort();
  while (how == "hang") pause();
  if (how == "throw") throw std::runtime_error("the GPU stopped");
}
#endif

/// Numbers in (-1, 1) that bf16 holds.
std::vector<bf16> numbers(std::int64_t n, std::uint32_t seed) {
  std::vector<bf16> v(static_cast<std::size_t>(n));
  for (bf16& x : v) {
    seed = seed * 1664525u + 1013904223u;
    x = bf16(static_cast<float>(static_cast<int>(seed >> 24) - 128) / 128.0f);
  }
  return v;
}
Tensor on_device(Device& device, const std::vector<bf16>& values) {
  const Tensor t = device.empty(DType::BF16, {static_cast<std::int64_t>(values.size())});
  device.upload(t, values.data(), DType::BF16);
  return t;
}
/// Copies a tensor to the host, waiting for it; bf16 as f32.
void fetch(Device& device, const Tensor& t, void* to) {
  std::string fault;
  device.read(t, to, [&fault](std::string message) { fault = std::move(message); });
  device.synchronize();
  if (!fault.empty()) throw std::runtime_error(fault);
}
/// Whether the two results agree to bf16's precision and hold no NaN.
bool agree(Device& device, const Tensor& a, const Tensor& b) {
  const auto n = static_cast<std::size_t>(a.numel());
  std::vector<float> x(n), y(n);
  fetch(device, a, x.data());
  fetch(device, b, y.data());
  double error = 0, size = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const double d = static_cast<double>(x[i]) - static_cast<double>(y[i]);
    error += d * d;
    size += static_cast<double>(y[i]) * static_cast<double>(y[i]);
  }
  return size > 0 && error <= 1e-5 * size;
}

/// Products with ragged edges, a low-rank term, and images moved by taps, in every configuration.
bool check(Device& device) {
#if EQ_SIMT
  misbehave();
#endif
  const Tensor word = device.empty(DType::I32, {1});
  fill_bytes(device, word.data(), 0, 4);
  const WgmmaWatch watch(word.data<unsigned>());
  const OpInfo info("WgmmaCheck", {});
  constexpr std::int64_t kRows = 3 * 128 + 40, kColumns = 328, kInner = 424, kRank = 24;
  const Tensor a = on_device(device, numbers(kRows * kInner, 1)), b = on_device(device, numbers(kColumns * kInner, 2));
  const Tensor low_a = on_device(device, numbers(kRows * kRank, 3)),
               low_b = on_device(device, numbers(kColumns * kRank, 4));
  const Tensor expected = device.empty(DType::BF16, {kRows, kColumns}), got = device.empty(DType::BF16, expected.shape);
  bool good = true;
  for (const bool along_k : {true, false}) {
    Gemm g{};
    g.type = DType::BF16;
    g.m = kRows, g.n = kColumns, g.k = kInner;
    g.a = {a.data(), true, kInner};
    g.b = {b.data(), along_k, along_k ? kInner : kColumns};
    g.low_rank = {low_a.data(), low_b.data(), DType::BF16, DType::BF16, kRank, 0.5f};
    g.out.c = expected.data();
    g.out.type = DType::BF16;
    g.out.rows.pitch = kColumns;
    gemm_built_in(device, info, g);
    g.out.c = got.data();
    for (const WgmmaTile& tile : kWgmmaTiles) {
      fill_bytes(device, got.data(), 0xff, got.bytes());
      good = good && wgmma_dense(device, info, g, tile) && agree(device, got, expected);
    }
  }
  // One tap, nine taps: the same image as the dense product of its patches is not at hand, so a 3 x 3 filter whose only
  // weight is one tap must give the moved image's product.
  constexpr std::int64_t kSide = 16, kChannels = 128, kBatch = 3, kOut = 192, kPixels = kBatch * kSide * kSide;
  const std::vector<bf16> picture = numbers(kPixels * kChannels, 5), weights = numbers(kChannels * kOut, 6);
  const Tensor image_values = on_device(device, picture);
  const Tensor y = device.empty(DType::BF16, {kPixels, kOut}), z = device.empty(DType::BF16, y.shape);
  for (const int tap : {0, 4, 5}) {
    std::vector<bf16> moved(picture.size()), filter(static_cast<std::size_t>(9 * kChannels * kOut)),
        turned(filter.size());
    for (std::int64_t i = 0; i < kPixels; ++i) {
      const std::int64_t v = i / kSide % kSide + tap / 3 - 1, u = i % kSide + tap % 3 - 1;
      const bool inside = v >= 0 && v < kSide && u >= 0 && u < kSide;
      for (std::int64_t c = 0; inside && c < kChannels; ++c)
        moved[static_cast<std::size_t>(i * kChannels + c)] =
            picture[static_cast<std::size_t>(((i / (kSide * kSide) * kSide + v) * kSide + u) * kChannels + c)];
    }
    for (std::int64_t c = 0; c < kChannels; ++c)
      for (std::int64_t o = 0; o < kOut; ++o) {
        const bf16 w = weights[static_cast<std::size_t>(c * kOut + o)];
        filter[static_cast<std::size_t>((tap * kChannels + c) * kOut + o)] = w;
        turned[static_cast<std::size_t>((tap * kOut + o) * kChannels + c)] = w;
      }
    const Tensor patches = on_device(device, moved), plain = on_device(device, weights);
    Gemm g{};
    g.type = DType::BF16;
    g.m = kPixels, g.n = kOut, g.k = kChannels;
    g.a = {patches.data(), true, kChannels};
    g.b = {plain.data(), false, kOut};
    g.out.c = y.data();
    g.out.type = DType::BF16;
    g.out.rows.pitch = kOut;
    gemm_built_in(device, info, g);
    for (const bool along_k : {true, false}) {
      const Tensor values = on_device(device, along_k ? turned : filter);
      ImageProduct p{
          {kBatch, kSide, kSide, kChannels, forward_axis(kSide, 3, 1, 1, 1), forward_axis(kSide, 3, 1, 1, 1)},
          image_values.data(),
          values.data(),
          along_k,
          kOut,
          3,
          9,
          g.out};
      p.out.m = kPixels;
      p.out.n = kOut;
      p.out.c = z.data();
      p.out.vectors = true;
      for (const WgmmaTile& tile : kWgmmaTiles) {
        fill_bytes(device, z.data(), 0xff, z.bytes());
        good = good && wgmma_image(device, info, p, tile) && agree(device, z, y);
      }
    }
  }
  unsigned stuck = 1;
  fetch(device, word, &stuck);
  return good && stuck == 0;
}

// The process that makes it.

struct Outcome {
  bool started = false, in_time = true;
  int status = 0;    ///< as waitpid tells it
  std::string text;  ///< what it wrote
};

/// Runs a program for at most `limit`, with nothing to read and its complaints dropped.
Outcome run_program(const char* file, const std::vector<std::string>& arguments,
                    const std::vector<std::string>& environment, std::chrono::milliseconds limit) {
  const auto pointers = [](const std::vector<std::string>& from) {
    std::vector<char*> to;
    for (const std::string& s : from) to.push_back(const_cast<char*>(s.c_str()));
    to.push_back(nullptr);
    return to;
  };
  Outcome outcome;
  int ends[2];
  if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return outcome;
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
  posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
  pid_t child = 0;
  outcome.started =
      posix_spawn(&child, file, &actions, nullptr, pointers(arguments).data(), pointers(environment).data()) == 0;
  posix_spawn_file_actions_destroy(&actions);
  close(ends[1]);
  auto deadline = std::chrono::steady_clock::now() + limit;
  while (outcome.started && waitpid(child, &outcome.status, WNOHANG) == 0) {
    if (std::chrono::steady_clock::now() > deadline) {
      // The driver may take a while to end what a process had under way on the GPU; it is not waited for without end.
      if (!outcome.in_time) break;
      outcome.in_time = false;
      kill(child, SIGKILL);
      deadline += std::chrono::seconds(5);
    }
    poll(nullptr, 0, 10);
  }
  char part[256];
  for (ssize_t n; (n = read(ends[0], part, sizeof part)) > 0;) outcome.text.append(part, static_cast<std::size_t>(n));
  close(ends[0]);
  return outcome;
}

/// The file that this code is in.
std::string own_file() {
  Dl_info found{};
  return dladdr(reinterpret_cast<const void*>(&run_program), &found) != 0 && found.dli_fname ? found.dli_fname : "";
}

/// This process's environment with other values of what the check depends on.
std::vector<std::string> trial_environment() {
  const std::vector<std::string> set{"NODE_OPTIONS=", "EQUIPOISE_CUDA_WGMMA=1", "EQUIPOISE_CUDA_TUNE=0",
                                     "EQUIPOISE_CUBLASLT=0", "EQUIPOISE_CUDNN=0"};
  std::vector<std::string> all = set;
  for (char** entry = environ; *entry; ++entry) {
    const bool replaced = std::any_of(set.begin(), set.end(), [&](const std::string& s) {
      return std::strncmp(*entry, s.c_str(), s.find('=') + 1) == 0;
    });
    if (!replaced) all.emplace_back(*entry);
  }
  return all;
}

enum class State { Unknown, Off, WrongDevice, NoDriver, NoTrial, Failed, Passed };
struct Verdict {
  State state;
  std::string story;
};

/// Opens the device, which another process may prevent, and tells what the check found.
constexpr const char* kTrialScript =
    "const a = require(process.argv[1]);"
    "try { a.selectDevice(Number(process.argv[2])); a.memory(); } catch { process.exit(3); }"
    "try { process.stdout.write(a.describe().wgmma); } catch (e) { process.exit(e instanceof RangeError ? 3 : 4); }";

Verdict run_trial(Device& device) {
  const std::string name = device.name(), file = own_file();
  const std::size_t colon = name.find(':');
#if EQ_SIMT
  const char* how = std::getenv("EQUIPOISE_SIMT_WGMMA");
  const auto limit = std::chrono::milliseconds(how && std::strcmp(how, "hang") == 0 ? 500 : 600'000);
#else
  constexpr auto limit = std::chrono::milliseconds(60'000);
#endif
  const Outcome outcome = run_program(
      "/proc/self/exe", {"node", "-e", kTrialScript, file, colon == std::string::npos ? "0" : name.substr(colon + 1)},
      trial_environment(), limit);
  if (!outcome.started) return {State::NoTrial, "no process could be started"};
  if (!outcome.in_time) return {State::Failed, concat("did not end within ", limit.count() / 1000.0, " s")};
  if (WIFSIGNALED(outcome.status)) return {State::Failed, concat("ended by signal ", WTERMSIG(outcome.status))};
  if (WEXITSTATUS(outcome.status) == 3) return {State::NoTrial, "another process could not use the GPU"};
  if (WEXITSTATUS(outcome.status) != 0) return {State::Failed, "stopped with an error"};
  if (outcome.text != "on") return {State::Failed, "computed something else"};
  return {State::Passed, ""};
}

// Its verdict.

/// What a verdict holds for: GPU, driver and the build of this addon.
std::string trial_circumstances(Device& device) {
  int version = 0;
  std::string driver;
#if !EQ_SIMT
  check_cuda(cudaDriverGetVersion(&version), "device");
  std::ifstream in("/proc/driver/nvidia/version");
  std::getline(in, driver);
#endif
  struct stat file{};
  stat(own_file().c_str(), &file);
  return concat(device_model(device), ", driver ", version, " ", driver, ", build ", file.st_mtim.tv_sec, " ",
                file.st_mtim.tv_nsec, " ", file.st_size);
}

/// The verdict of this process, of one before it, or of a trial; what a trial could not tell is asked anew next time.
Verdict find_verdict(Device& device) {
  const std::filesystem::path folder = cache_folder(), file = folder / "cuda-wgmma.tsv";
  const std::string where = trial_circumstances(device) + '\t';
  if (std::ifstream in(file); !folder.empty())
    for (std::string line; std::getline(in, line);)
      if (line.rfind(where, 0) == 0) {
        const std::string story = line.substr(where.size());
        return {story.empty() ? State::Passed : State::Failed, story};
      }
  const Verdict verdict = run_trial(device);
  if (verdict.state != State::NoTrial && !folder.empty()) {
    std::error_code ignored;
    std::filesystem::create_directories(folder, ignored);
    std::ofstream(file, std::ios::app) << where + verdict.story + '\n' << std::flush;
  }
  return verdict;
}

Verdict decide(Device& device) {
  const char* wanted = std::getenv("EQUIPOISE_CUDA_WGMMA");
  const std::string_view value = wanted ? wanted : "";
  check_type(value.empty() || value == "0" || value == "1", "EQUIPOISE_CUDA_WGMMA: expected 0 or 1, got \"", value,
             "\"");
  if (value == "0") return {State::Off, ""};
  if (compute_capability(device) != 90) return {State::WrongDevice, ""};
  if (!wgmma_mappable()) return {State::NoDriver, ""};
  if (value.empty()) return find_verdict(device);
  return {check(device) ? State::Passed : State::Failed, "computed something else"};
}

Verdict known{State::Unknown, ""};

}  // namespace

bool wgmma_usable(Device& device) {
  if (known.state == State::Unknown && !recording(device)) {
    known = {State::Failed, "stopped with an error"};  // unless it comes back
    known = decide(device);
  }
  return known.state == State::Passed;
}

std::string wgmma_state() {
  switch (known.state) {
    case State::Unknown:
      return "not asked for yet";
    case State::Off:
      return "off (EQUIPOISE_CUDA_WGMMA=0)";
    case State::WrongDevice:
      return "needs compute capability 9.0";
    case State::NoDriver:
      return "this driver has no tensor maps";
    case State::NoTrial:
      return "not checked, not used: " + known.story;
    case State::Failed:
      return "failed its check, not used: " + known.story;
    case State::Passed:
      return "on";
  }
  return "";
}

}  // namespace eq::tile
