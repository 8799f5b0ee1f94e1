// One convolution as a plan of cuDNN's graph interface: convolution, bias, addend and activation are operations joined
// by f32 tensors that are never stored. Images are [B, H, W, C] in bf16, the filter [O, R, S, I], sums f32 in a fixed
// order.
//
// The graph interface and not cudnnConvolutionForward: it takes f32 beside bf16 in one pass (bias, addend, result),
// padding that differs from side to side, and silu or gelu, tells which engines sum in lower precision or in no fixed
// order, and makes plans for a GPU that is not there, which tools/gpu/check-libraries.sh does with the real library. A
// plan with more than the convolution is compiled by cuDNN when it is made, which takes seconds; its text, the code
// with it, takes milliseconds to read.
#pragma once

#include <algorithm>
#include <array>
#include <deque>
#include <initializer_list>
#include <memory>
#include <string>
#include <vector>

#include "kernels/conv/core/geometry.h"
#include "kernels/gemm/core/epilogue_args.h"
#include "runtime/cuda/cudnn_api.h"

namespace eq::tile {

/// What a plan depends on.
struct DnnConvolution {
  ConvGeometry geometry;
  bool transposed = false;  ///< the image's gradient
  DType result_type = DType::BF16;
  bool bias = false, addend = false;
  DType bias_type = DType::F32, addend_type = DType::F32;
  FusedActivation activation = FusedActivation::None;
};

/// Where plans run: a handle, or properties of a GPU that need not be there.
struct DnnTarget {
  cudnn::Handle handle = nullptr;
  cudnn::Descriptor properties = nullptr;
};

/// A descriptor under construction: the first refusal makes all that follows do nothing.
class DnnDescriptor {
 public:
  DnnDescriptor(const cudnn::Api& api, cudnn::Kind kind) : api_(api) {
    ok_ = api.descriptor_create(kind, &raw_) == cudnn::kSuccess;
  }
  ~DnnDescriptor() {
    if (raw_) api_.descriptor_destroy(raw_);
  }
  DnnDescriptor(const DnnDescriptor&) = delete;
  DnnDescriptor& operator=(const DnnDescriptor&) = delete;

  DnnDescriptor& set(cudnn::Attribute name, cudnn::Type type, std::int64_t count, const void* values) {
    ok_ = ok_ && api_.descriptor_set(raw_, name, type, count, values) == cudnn::kSuccess;
    return *this;
  }
  /// Enumerations and truth values; floats; a handle.
  template <class T>
  DnnDescriptor& one(cudnn::Attribute name, cudnn::Type type, T value) {
    return set(name, type, 1, &value);
  }
  DnnDescriptor& numbers(cudnn::Attribute name, std::initializer_list<std::int64_t> values) {
    return set(name, cudnn::kInt64, static_cast<std::int64_t>(values.size()), values.begin());
  }
  DnnDescriptor& refer(cudnn::Attribute name, const DnnDescriptor& other) {
    ok_ = ok_ && other.ok_;
    return one(name, cudnn::kDescriptor, other.raw_);
  }
  DnnDescriptor& finish() {
    ok_ = ok_ && api_.descriptor_finalize(raw_) == cudnn::kSuccess;
    return *this;
  }
  /// Up to `most` values; how many there are.
  std::int64_t get(cudnn::Attribute name, cudnn::Type type, std::int64_t most, void* values) const {
    std::int64_t count = 0;
    return ok_ && api_.descriptor_get(raw_, name, type, most, &count, values) == cudnn::kSuccess ? count : 0;
  }
  bool ok() const { return ok_; }
  cudnn::Descriptor raw() const { return raw_; }

 private:
  const cudnn::Api& api_;
  cudnn::Descriptor raw_ = nullptr;
  bool ok_ = false;
};

class DnnPlan {
 public:
  static constexpr std::int64_t kMostWorkspace = std::int64_t{256} << 20;
  /// What every tensor is aligned to.
  static constexpr std::int64_t kAlignment = 16;

  /// Null where the library has no engine for it.
  static std::unique_ptr<DnnPlan> make(const cudnn::Api& api, const DnnTarget& target, const DnnConvolution& c) {
    std::unique_ptr<DnnPlan> plan(new DnnPlan(api));
    if (!plan->describe(target, c)) return nullptr;
    for (cudnn::HeuristicsMode mode : {cudnn::kModeA, cudnn::kFallback})
      if (plan->choose(target, mode)) return plan;
    return nullptr;
  }

  /// A plan from what `text` gave, for the same library and GPU; null where the library does not take it.
  static std::unique_ptr<DnnPlan> read(const cudnn::Api& api, const DnnTarget& target, const std::string& text) {
    std::unique_ptr<DnnPlan> plan(new DnnPlan(api));
    DnnDescriptor& descriptor = plan->add(cudnn::kExecutionPlan);
    plan->aim(descriptor, target);
    descriptor.set(cudnn::kPlanJson, cudnn::kChar, static_cast<std::int64_t>(text.size()), text.data());
    return plan->finish(descriptor) ? std::move(plan) : nullptr;
  }

  /// The plan with its code, its last byte a zero; empty where the library does not tell.
  std::string text() const {
    std::string all(static_cast<std::size_t>(plan_->get(cudnn::kPlanJson, cudnn::kChar, 0, nullptr)), '\0');
    const auto size = static_cast<std::int64_t>(all.size());
    return size > 0 && plan_->get(cudnn::kPlanJson, cudnn::kChar, size, all.data()) == size ? all : std::string();
  }

  std::int64_t workspace() const { return workspace_; }

  struct Pointers {
    const void *image, *filter;
    void* result;
    const void *bias, *addend;  ///< null where the plan has none
  };
  /// Queues the convolution on the handle's stream; false where the library refuses it.
  bool run(cudnn::Handle handle, const Pointers& p, void* workspace) const {
    std::vector<std::int64_t> ids{kImage, kFilter, kResult};
    std::vector<const void*> pointers{p.image, p.filter, p.result};
    const auto add_pointer = [&](Id id, const void* pointer) {
      if (!pointer) return;
      ids.push_back(id);
      pointers.push_back(pointer);
    };
    add_pointer(kBias, p.bias);
    add_pointer(kAddend, p.addend);
    const auto count = static_cast<std::int64_t>(ids.size());
    DnnDescriptor pack(api_, cudnn::kVariantPack);
    pack.set(cudnn::kPackIds, cudnn::kInt64, count, ids.data())
        .set(cudnn::kPackPointers, cudnn::kPointer, count, pointers.data())
        .one(cudnn::kPackWorkspace, cudnn::kPointer, workspace)
        .finish();
    return pack.ok() && api_.execute(handle, plan_->raw(), pack.raw()) == cudnn::kSuccess;
  }

 private:
  enum Id : std::int64_t { kImage = 1, kFilter, kResult, kBias, kAddend, kFirstUnstored };

  explicit DnnPlan(const cudnn::Api& api) : api_(api) {}

  DnnDescriptor& add(cudnn::Kind kind) { return all_.emplace_back(api_, kind); }

  /// [d0, channels, d2, d3] stored with channels innermost.
  DnnDescriptor& tensor(std::int64_t id, DType type, const std::array<std::int64_t, 4>& d, bool stored = true) {
    return add(cudnn::kTensor)
        .numbers(cudnn::kTensorId, {id})
        .one(cudnn::kTensorType, cudnn::kDataType, type == DType::BF16 ? cudnn::kBf16 : cudnn::kFloat)
        .numbers(cudnn::kTensorAlignment, {kAlignment})
        .numbers(cudnn::kTensorDimensions, {d[0], d[1], d[2], d[3]})
        .numbers(cudnn::kTensorStrides, {d[1] * d[2] * d[3], 1, d[3] * d[1], d[1]})
        .one(cudnn::kTensorVirtual, cudnn::kBoolean, !stored)
        .finish();
  }
  DnnDescriptor& pointwise(cudnn::Pointwise mode, const DnnDescriptor& x, const DnnDescriptor* b,
                           const DnnDescriptor& y) {
    const DnnDescriptor& how = add(cudnn::kPointwise)
                                   .one(cudnn::kPointwiseModeOf, cudnn::kPointwiseMode, mode)
                                   .one(cudnn::kPointwisePrecision, cudnn::kDataType, cudnn::kFloat)
                                   .finish();
    DnnDescriptor& operation = add(cudnn::kPointwiseOperation)
                                   .refer(cudnn::kOperationPointwise, how)
                                   .refer(cudnn::kOperationX, x)
                                   .refer(cudnn::kOperationY, y);
    if (b) operation.refer(cudnn::kOperationB, *b);
    return operation.finish();
  }

  /// The window: strides, dilations and padding.
  const DnnDescriptor& window(const ConvGeometry& g) {
    // The last rows and columns of the image may go unused: no padding is negative.
    const auto after = [](std::int64_t size, std::int64_t out, std::int64_t taps, std::int64_t stride,
                          std::int64_t dilation, std::int64_t before) {
      return std::max<std::int64_t>(0, (out - 1) * stride + (taps - 1) * dilation + 1 - size - before);
    };
    return add(cudnn::kConvolution)
        .one(cudnn::kConvolutionCompute, cudnn::kDataType, cudnn::kFloat)
        .one(cudnn::kConvolutionModeOf, cudnn::kConvolutionMode, cudnn::kCrossCorrelation)
        .numbers(cudnn::kConvolutionDims, {2})
        .numbers(cudnn::kConvolutionDilations, {g.dilation_height, g.dilation_width})
        .numbers(cudnn::kConvolutionStrides, {g.stride_height, g.stride_width})
        .numbers(cudnn::kConvolutionPre, {g.top, g.left})
        .numbers(cudnn::kConvolutionPost,
                 {after(g.height, g.out_height, g.filter_height, g.stride_height, g.dilation_height, g.top),
                  after(g.width, g.out_width, g.filter_width, g.stride_width, g.dilation_width, g.left)})
        .finish();
  }

  const DnnDescriptor& product(const DnnConvolution& c, const DnnDescriptor& x, const DnnDescriptor& w,
                               const DnnDescriptor& y) {
    using namespace cudnn;
    const bool t = c.transposed;
    return add(t ? kConvolutionBackwardData : kConvolutionForward)
        .one(t ? kBackwardAlpha : kForwardAlpha, kFloats, 1.0f)
        .one(t ? kBackwardBeta : kForwardBeta, kFloats, 0.0f)
        .refer(t ? kBackwardConvolution : kForwardConvolution, window(c.geometry))
        .refer(t ? kBackwardDy : kForwardX, x)
        .refer(t ? kBackwardW : kForwardW, w)
        .refer(t ? kBackwardDx : kForwardY, y)
        .finish();
  }

  static cudnn::Pointwise mode_of(FusedActivation activation) {
    switch (activation) {
      case FusedActivation::Relu:
        return cudnn::kReluForward;
      case FusedActivation::Silu:
        return cudnn::kSwishForward;
      default:
        return cudnn::kGeluForward;
    }
  }

  bool describe(const DnnTarget& target, const DnnConvolution& c) {
    const ConvGeometry& g = c.geometry;
    const std::array<std::int64_t, 4> image{g.batch, g.channels, g.height, g.width},
        out{g.batch, g.out_channels, g.out_height, g.out_width};
    const DnnDescriptor& x = tensor(kImage, DType::BF16, c.transposed ? out : image);
    const DnnDescriptor& w =
        tensor(kFilter, DType::BF16, {g.out_channels, g.channels, g.filter_height, g.filter_width});
    const DnnDescriptor& y = tensor(kResult, c.result_type, c.transposed ? image : out);

    // Each operation but the last gives a tensor that is not stored.
    int steps = c.bias + c.addend + (c.activation != FusedActivation::None);
    std::int64_t id = kFirstUnstored;
    const auto next = [&]() -> const DnnDescriptor& { return steps-- == 0 ? y : tensor(id++, DType::F32, out, false); };
    std::vector<const DnnDescriptor*> operations;
    const DnnDescriptor* last = &next();
    operations.push_back(&product(c, x, w, *last));
    const auto then = [&](cudnn::Pointwise mode, const DnnDescriptor* operand) {
      const DnnDescriptor& to = next();
      operations.push_back(&pointwise(mode, *last, operand, to));
      last = &to;
    };
    if (c.bias) then(cudnn::kAdd, &tensor(kBias, c.bias_type, {1, g.out_channels, 1, 1}));
    if (c.addend) then(cudnn::kAdd, &tensor(kAddend, c.addend_type, out));
    if (c.activation != FusedActivation::None) then(mode_of(c.activation), nullptr);

    std::vector<cudnn::Descriptor> raw;
    for (const DnnDescriptor* operation : operations) {
      if (!operation->ok()) return false;
      raw.push_back(operation->raw());
    }
    graph_ = &add(cudnn::kOperationGraph);
    graph_->set(cudnn::kGraphOperations, cudnn::kDescriptor, static_cast<std::int64_t>(raw.size()), raw.data());
    if (target.handle) graph_->one(cudnn::kGraphHandle, cudnn::kHandle, target.handle);
    return graph_->finish().ok();
  }

  /// The best engine of a list that keeps its sums in f32 and in order, on tensor cores, and needs little memory.
  bool choose(const DnnTarget& target, cudnn::HeuristicsMode mode) {
    using namespace cudnn;
    constexpr std::int64_t kMostEngines = 16;
    DnnDescriptor& list =
        add(kEngineHeuristics).refer(kHeuristicsGraph, *graph_).one(kHeuristicsMode, cudnn::kHeuristicMode, mode);
    if (target.properties) list.one(kHeuristicsDevice, kDescriptor, target.properties);
    if (!list.finish().ok()) return false;
    const std::int64_t count = std::min(kMostEngines, list.get(kHeuristicsResults, kDescriptor, 0, nullptr));
    std::vector<const DnnDescriptor*> configs;
    std::vector<Descriptor> raw;
    for (std::int64_t i = 0; i < count; ++i) {
      configs.push_back(&add(kEngineConfig));
      raw.push_back(configs.back()->raw());
    }
    const std::int64_t given = list.get(kHeuristicsResults, kDescriptor, count, raw.data());
    for (std::int64_t i = 0; i < std::min(count, given); ++i)
      if (exact(*configs[static_cast<std::size_t>(i)]) && compile(target, *configs[static_cast<std::size_t>(i)]))
        return true;
    return false;
  }

  /// What an engine says of its sums. One that says nothing is not taken.
  bool exact(const DnnDescriptor& config) {
    using namespace cudnn;
    const DnnDescriptor& engine = add(kEngine);
    Descriptor raw = engine.raw();
    if (config.get(kConfigEngine, kDescriptor, 1, &raw) != 1) return false;
    std::array<int, kMostNotes> notes{};
    const std::int64_t count = engine.get(kEngineNotes, kNumericalNote, kMostNotes, notes.data());
    const auto end = notes.begin() + std::min<std::int64_t>(count, kMostNotes);
    const auto has = [&](int note) { return std::find(notes.begin(), end, note) != end; };
    return has(kTensorCore) && !has(kReducedReduction) && !has(kNondeterministic) && !has(kFft) && !has(kWinograd);
  }

  bool compile(const DnnTarget& target, const DnnDescriptor& config) {
    DnnDescriptor& plan = add(cudnn::kExecutionPlan).refer(cudnn::kPlanConfig, config);
    aim(plan, target);
    return finish(plan);
  }

  static void aim(DnnDescriptor& plan, const DnnTarget& target) {
    if (target.handle) plan.one(cudnn::kPlanHandle, cudnn::kHandle, target.handle);
    if (target.properties) plan.one(cudnn::kPlanDevice, cudnn::kDescriptor, target.properties);
  }

  bool finish(DnnDescriptor& plan) {
    if (!plan.finish().ok()) return false;
    std::int64_t bytes = 0;
    if (plan.get(cudnn::kPlanWorkspace, cudnn::kInt64, 1, &bytes) != 1 || bytes > kMostWorkspace) return false;
    workspace_ = bytes;
    plan_ = &plan;
    return true;
  }

  const cudnn::Api& api_;
  std::deque<DnnDescriptor> all_;  ///< descriptors refer to one another
  DnnDescriptor *graph_ = nullptr, *plan_ = nullptr;
  std::int64_t workspace_ = 0;
};

}  // namespace eq::tile
