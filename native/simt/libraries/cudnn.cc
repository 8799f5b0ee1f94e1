// A stand-in for cuDNN's graph interface on host memory, for tests: it takes descriptors as the documentation has them,
// refuses attributes of another type or number, and computes what the graph says by the strides of its tensors. Its
// first engine sums in no fixed order by its own account and leaves wrong results: it must not be taken.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <memory>
#include <vector>

#include "runtime/dtype.h"
#include "simt/libraries/cudnn_nodes.h"
#include "simt/work_queue.h"

namespace eq::cudnn {

struct Context {
  simt::WorkQueue* queue = nullptr;
};

namespace {

constexpr int kRefused = 2000;  // CUDNN_STATUS_BAD_PARAM
constexpr std::int64_t kWorkspaceBytes = 512;

/// What an operation needs before it is finished: how many values of each attribute.
bool complete(const Node& n) {
  const auto has = [&](std::initializer_list<int> names, std::size_t count) {
    for (int name : names) {
      const auto numbers = n.numbers.find(name);
      const auto nodes = n.nodes.find(name);
      const std::size_t found = numbers != n.numbers.end() ? numbers->second.size()
                                : nodes != n.nodes.end()   ? nodes->second.size()
                                                           : 0;
      if (found != count) return false;
    }
    return true;
  };
  switch (n.kind) {
    case kPointwise:
      return has({kPointwiseModeOf, kPointwisePrecision}, 1) && n.number(kPointwisePrecision) == kFloat;
    case kConvolution:
      return has({kConvolutionCompute, kConvolutionModeOf, kConvolutionDims}, 1) &&
             has({kConvolutionDilations, kConvolutionStrides, kConvolutionPre, kConvolutionPost}, 2) &&
             n.number(kConvolutionCompute) == kFloat && n.number(kConvolutionModeOf) == kCrossCorrelation &&
             n.number(kConvolutionDims) == 2;
    case kTensor:
      return has({kTensorId, kTensorType, kTensorAlignment}, 1) && has({kTensorDimensions, kTensorStrides}, 4);
    case kConvolutionForward:
      return has({kForwardAlpha, kForwardBeta, kForwardConvolution, kForwardW, kForwardX, kForwardY}, 1);
    case kConvolutionBackwardData:
      return has({kBackwardAlpha, kBackwardBeta, kBackwardConvolution, kBackwardW, kBackwardDx, kBackwardDy}, 1);
    case kPointwiseOperation:
      return has({kOperationPointwise, kOperationX, kOperationY}, 1);
    case kOperationGraph:
      return n.nodes.count(kGraphOperations) && n.pointers.count(kGraphHandle);
    case kEngineHeuristics:
      return has({kHeuristicsGraph, kHeuristicsMode}, 1);
    case kExecutionPlan:
      return has({kPlanConfig}, 1) && n.pointers.count(kPlanHandle);
    case kVariantPack:
      return n.pointers.count(kPackWorkspace) && n.numbers.at(kPackIds).size() == n.pointers.at(kPackPointers).size();
    default:
      return false;
  }
}

/// A tensor with its values, or f32 memory of its own where it is not stored.
struct Values {
  std::int64_t d[4], s[4];
  int type;
  void* data;
  std::shared_ptr<std::vector<float>> own;

  float at(std::int64_t a, std::int64_t b, std::int64_t c, std::int64_t e) const {
    // One of one is for all.
    const std::int64_t i = (d[0] == 1 ? 0 : a * s[0]) + (d[1] == 1 ? 0 : b * s[1]) + (d[2] == 1 ? 0 : c * s[2]) +
                           (d[3] == 1 ? 0 : e * s[3]);
    return type == kFloat ? static_cast<const float*>(data)[i] : static_cast<float>(static_cast<const bf16*>(data)[i]);
  }
  void put(std::int64_t a, std::int64_t b, std::int64_t c, std::int64_t e, float v) const {
    const std::int64_t i = a * s[0] + b * s[1] + c * s[2] + e * s[3];
    if (type == kFloat)
      static_cast<float*>(data)[i] = v;
    else
      static_cast<bf16*>(data)[i] = bf16(v);
  }
  template <class F>
  void each(F value) const {
    for (std::int64_t a = 0; a < d[0]; ++a)
      for (std::int64_t b = 0; b < d[1]; ++b)
        for (std::int64_t c = 0; c < d[2]; ++c)
          for (std::int64_t e = 0; e < d[3]; ++e) put(a, b, c, e, value(a, b, c, e));
  }
};

struct Window {
  std::int64_t stride[2], dilation[2], pre[2], post[2];
};
Window window_of(const Node& n) {
  Window w;
  for (std::size_t i = 0; i < 2; ++i) {
    w.stride[i] = n.numbers.at(kConvolutionStrides)[i];
    w.dilation[i] = n.numbers.at(kConvolutionDilations)[i];
    w.pre[i] = n.numbers.at(kConvolutionPre)[i];
    w.post[i] = n.numbers.at(kConvolutionPost)[i];
  }
  return w;
}
bool fits(const Window& w, const Values& x, const Values& f, const Values& y) {
  for (int i = 0; i < 2; ++i)
    if ((x.d[2 + i] + w.pre[i] + w.post[i] - (f.d[2 + i] - 1) * w.dilation[i] - 1) / w.stride[i] + 1 != y.d[2 + i])
      return false;
  return x.d[0] == y.d[0] && x.d[1] == f.d[1] && f.d[0] == y.d[1];
}

void convolve(const Window& w, const Values& x, const Values& f, const Values& y) {
  y.each([&](std::int64_t b, std::int64_t o, std::int64_t p, std::int64_t q) {
    float sum = 0;
    for (std::int64_t r = 0; r < f.d[2]; ++r)
      for (std::int64_t s = 0; s < f.d[3]; ++s) {
        const std::int64_t h = p * w.stride[0] + r * w.dilation[0] - w.pre[0],
                           v = q * w.stride[1] + s * w.dilation[1] - w.pre[1];
        if (h < 0 || h >= x.d[2] || v < 0 || v >= x.d[3]) continue;
        for (std::int64_t i = 0; i < x.d[1]; ++i) sum += x.at(b, i, h, v) * f.at(o, i, r, s);
      }
    return sum;
  });
}
void convolve_back(const Window& w, const Values& dx, const Values& f, const Values& dy) {
  dx.each([&](std::int64_t b, std::int64_t i, std::int64_t h, std::int64_t v) {
    float sum = 0;
    for (std::int64_t r = 0; r < f.d[2]; ++r)
      for (std::int64_t s = 0; s < f.d[3]; ++s) {
        const std::int64_t p = h + w.pre[0] - r * w.dilation[0], q = v + w.pre[1] - s * w.dilation[1];
        if (p < 0 || q < 0 || p % w.stride[0] || q % w.stride[1]) continue;
        if (p / w.stride[0] >= dy.d[2] || q / w.stride[1] >= dy.d[3]) continue;
        for (std::int64_t o = 0; o < dy.d[1]; ++o)
          sum += dy.at(b, o, p / w.stride[0], q / w.stride[1]) * f.at(o, i, r, s);
      }
    return sum;
  });
}
float activate(std::int64_t mode, float x) {
  switch (mode) {
    case kReluForward:
      return x > 0 ? x : 0;
    case kSwishForward:
      return x / (1 + std::exp(-x));
    default:
      return 0.5f * x * (1 + std::erf(x * 0.70710678f));
  }
}

/// The graph of a plan with its tensors bound: steps that own all they need.
class Program {
 public:
  /// False where the graph or the pack is not one that the library takes.
  bool bind(const Node& graph, const Node& pack) {
    const auto& ids = pack.numbers.at(kPackIds);
    for (std::size_t i = 0; i < ids.size(); ++i) stored_[ids[i]] = pack.pointers.at(kPackPointers)[i];
    for (const Node* operation : graph.nodes.at(kGraphOperations))
      if (!step(*operation)) return false;
    return used_ == stored_.size();
  }
  void run() const {
    for (const auto& s : steps_) s();
  }

 private:
  const Values* values(const Node& t) {
    const std::int64_t id = t.number(kTensorId);
    const auto found = values_.find(id);
    if (found != values_.end()) return &found->second;
    Values v;
    std::int64_t size = 1;
    for (std::size_t i = 0; i < 4; ++i) {
      v.d[i] = t.numbers.at(kTensorDimensions)[i];
      v.s[i] = t.numbers.at(kTensorStrides)[i];
      size *= v.d[i];
    }
    v.type = static_cast<int>(t.number(kTensorType));
    const auto virtual_tensor = t.numbers.find(kTensorVirtual);
    if (virtual_tensor != t.numbers.end() && virtual_tensor->second[0]) {
      if (v.type != kFloat) return nullptr;
      v.own = std::make_shared<std::vector<float>>(static_cast<std::size_t>(size), NAN);
      v.data = v.own->data();
    } else {
      const auto pointer = stored_.find(id);
      if (pointer == stored_.end() || !pointer->second ||
          reinterpret_cast<std::uintptr_t>(pointer->second) % static_cast<std::uintptr_t>(t.number(kTensorAlignment)))
        return nullptr;
      v.data = pointer->second;
      ++used_;
    }
    return &(values_[id] = v);
  }

  bool step(const Node& o) {
    if (o.kind == kPointwiseOperation) {
      const Values *x = values(o.node(kOperationX)), *y = values(o.node(kOperationY));
      const std::int64_t mode = o.node(kOperationPointwise).number(kPointwiseModeOf);
      const bool binary = mode == kAdd;
      if (!x || !y || binary != (o.nodes.count(kOperationB) == 1)) return false;
      if (!binary) {
        steps_.push_back(
            [mode, from = *x, to = *y] { to.each([&](auto... at) { return activate(mode, from.at(at...)); }); });
        return true;
      }
      const Values* b = values(o.node(kOperationB));
      if (!b) return false;
      steps_.push_back(
          [from = *x, other = *b, to = *y] { to.each([&](auto... at) { return from.at(at...) + other.at(at...); }); });
      return true;
    }
    const bool back = o.kind == kConvolutionBackwardData;
    const Values *x = values(o.node(back ? kBackwardDx : kForwardX)),
                 *f = values(o.node(back ? kBackwardW : kForwardW)),
                 *y = values(o.node(back ? kBackwardDy : kForwardY));
    if (!x || !f || !y) return false;
    const Window w = window_of(o.node(back ? kBackwardConvolution : kForwardConvolution));
    if (!fits(w, *x, *f, *y)) return false;
    steps_.push_back([back, w, image = *x, filter = *f, result = *y] {
      back ? convolve_back(w, image, filter, result) : convolve(w, image, filter, result);
    });
    return true;
  }

  std::map<std::int64_t, void*> stored_;
  std::map<std::int64_t, Values> values_;
  std::size_t used_ = 0;
  std::vector<std::function<void()>> steps_;
};

Node* node_of(Descriptor d) { return static_cast<Node*>(d); }

}  // namespace

extern "C" {
#define EQ_EXPORT __attribute__((visibility("default")))

EQ_EXPORT std::size_t cudnnGetVersion() { return 90000; }
EQ_EXPORT int cudnnCreate(Handle* handle) {
  static Context one;
  *handle = &one;
  return kSuccess;
}
EQ_EXPORT int cudnnSetStream(Handle handle, Stream stream) {
  handle->queue = static_cast<simt::WorkQueue*>(stream);
  return kSuccess;
}
EQ_EXPORT int cudnnBackendCreateDescriptor(int kind, Descriptor* descriptor) {
  auto* node = new Node;
  node->kind = kind;
  *descriptor = node;
  return kSuccess;
}
EQ_EXPORT int cudnnBackendDestroyDescriptor(Descriptor descriptor) { return delete node_of(descriptor), kSuccess; }

EQ_EXPORT int cudnnBackendSetAttribute(Descriptor descriptor, int name, int type, std::int64_t count,
                                       const void* values) {
  Node& n = *node_of(descriptor);
  if (n.finished || type != type_of(n.kind, name) || count < 1) return kRefused;
  const auto copy = [&](auto zero, auto& to) {
    const auto* from = static_cast<const decltype(zero)*>(values);
    for (std::int64_t i = 0; i < count; ++i) to.push_back(static_cast<std::int64_t>(from[i]));
  };
  if (type == kInt64) {
    copy(std::int64_t{}, n.numbers[name]);
  } else if (type == kFloats) {
    copy(float{}, n.numbers[name]);
  } else if (type == kBoolean) {
    copy(bool{}, n.numbers[name]);
  } else if (type == kChar) {
    const char* text = static_cast<const char*>(values);
    if (text[count - 1] != '\0') return kRefused;
    const Node* config = PlanText::read(text, n.read);
    if (!config) return kRefused;
    n.nodes[kPlanConfig] = {config};
  } else if (type == kHandle || type == kPointer) {
    for (std::int64_t i = 0; i < count; ++i) n.pointers[name].push_back(static_cast<void* const*>(values)[i]);
  } else if (type == kDescriptor) {
    for (std::int64_t i = 0; i < count; ++i) {
      const Node* other = node_of(static_cast<const Descriptor*>(values)[i]);
      if (!other->finished && other->kind != kEngineConfig) return kRefused;
      n.nodes[name].push_back(other);
    }
  } else {
    copy(int{}, n.numbers[name]);
  }
  return kSuccess;
}

EQ_EXPORT int cudnnBackendFinalize(Descriptor descriptor) {
  Node& n = *node_of(descriptor);
  if (n.finished || !complete(n)) return kRefused;
  n.finished = true;
  return kSuccess;
}

EQ_EXPORT int cudnnBackendGetAttribute(Descriptor descriptor, int name, int type, std::int64_t most,
                                       std::int64_t* count, void* values) {
  const Node& n = *node_of(descriptor);
  if (n.kind == kEngineHeuristics && name == kHeuristicsResults && type == kDescriptor && n.finished) {
    // Two engines; with no room asked for, how many.
    for (int i = 0; i < 2 && i < most; ++i) node_of(static_cast<Descriptor*>(values)[i])->engine = i;
    for (int i = 0; i < 2 && i < most; ++i)
      node_of(static_cast<Descriptor*>(values)[i])->nodes[kHeuristicsGraph] = n.nodes.at(kHeuristicsGraph);
    *count = most == 0 ? 2 : std::min<std::int64_t>(2, most);
  } else if (n.kind == kEngineConfig && name == kConfigEngine && type == kDescriptor && most == 1) {
    node_of(*static_cast<Descriptor*>(values))->engine = n.engine;
    *count = 1;
  } else if (n.kind == kEngine && name == kEngineNotes && type == kNumericalNote && most >= 2) {
    static_cast<int*>(values)[0] = kTensorCore;
    static_cast<int*>(values)[1] = kNondeterministic;
    *count = n.engine == 0 ? 2 : 1;
  } else if (n.kind == kExecutionPlan && name == kPlanWorkspace && type == kInt64 && n.finished) {
    *static_cast<std::int64_t*>(values) = kWorkspaceBytes;
    *count = 1;
  } else if (n.kind == kExecutionPlan && name == kPlanJson && type == kChar && n.finished) {
    const std::string text = PlanText::write(n);
    *count = static_cast<std::int64_t>(text.size()) + 1;
    if (most >= *count) std::memcpy(values, text.c_str(), text.size() + 1);
  } else {
    return kRefused;
  }
  return kSuccess;
}

EQ_EXPORT int cudnnBackendExecute(Handle handle, Descriptor plan, Descriptor pack) {
  const Node &p = *node_of(plan), &v = *node_of(pack);
  if (!p.finished || !v.finished || !handle->queue) return kRefused;
  const Node& config = p.node(kPlanConfig);
  auto program = std::make_shared<Program>();
  if (!program->bind(config.node(kHeuristicsGraph), v)) return kRefused;
  void* workspace = v.pointers.at(kPackWorkspace)[0];
  handle->queue->add([program, workspace, wrong = config.engine == 0] {
    std::memset(workspace, 0xff, static_cast<std::size_t>(kWorkspaceBytes));
    if (!wrong) program->run();
  });
  return kSuccess;
}
}

}  // namespace eq::cudnn
