// Descriptors of the stand-in for cuDNN (cudnn.cc), and plans as text.
#pragma once

#include <list>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "runtime/cuda/cudnn_api.h"

namespace eq::cudnn {

struct Node {
  int kind = 0;
  bool finished = false;
  int engine = -1;  ///< of an engine and of its configuration
  std::map<int, std::vector<std::int64_t>> numbers;
  std::map<int, std::vector<const Node*>> nodes;
  std::map<int, std::vector<void*>> pointers;
  std::list<Node> read;  ///< what the text of a plan has given

  std::int64_t number(int name) const { return numbers.at(name).at(0); }
  const Node& node(int name) const { return *nodes.at(name).at(0); }
};

/// The type of an attribute's elements, or -1 where the descriptor has no such attribute.
inline int type_of(int kind, int name) {
  struct Rule {
    int kind, first, last, type;
  };
  static constexpr Rule kRules[] = {
      {kPointwise, kPointwiseModeOf, kPointwiseModeOf, kPointwiseMode},
      {kPointwise, kPointwisePrecision, kPointwisePrecision, kDataType},
      {kConvolution, kConvolutionCompute, kConvolutionCompute, kDataType},
      {kConvolution, kConvolutionModeOf, kConvolutionModeOf, kConvolutionMode},
      {kConvolution, kConvolutionDilations, kConvolutionDims, kInt64},
      {kEngineHeuristics, kHeuristicsMode, kHeuristicsMode, kHeuristicMode},
      {kEngineHeuristics, kHeuristicsGraph, kHeuristicsGraph, kDescriptor},
      {kExecutionPlan, kPlanHandle, kPlanHandle, kHandle},
      {kExecutionPlan, kPlanConfig, kPlanConfig, kDescriptor},
      {kExecutionPlan, kPlanJson, kPlanJson, kChar},
      {kConvolutionForward, kForwardAlpha, kForwardBeta, kFloats},
      {kConvolutionForward, kForwardConvolution, kForwardY, kDescriptor},
      {kConvolutionBackwardData, kBackwardAlpha, kBackwardBeta, kFloats},
      {kConvolutionBackwardData, kBackwardConvolution, kBackwardDy, kDescriptor},
      {kPointwiseOperation, kOperationPointwise, kOperationY, kDescriptor},
      {kOperationGraph, kGraphHandle, kGraphHandle, kHandle},
      {kOperationGraph, kGraphOperations, kGraphOperations, kDescriptor},
      {kVariantPack, kPackIds, kPackIds, kInt64},
      {kVariantPack, kPackPointers, kPackPointers, kPointer},
      {kVariantPack, kPackWorkspace, kPackWorkspace, kPointer},
      {kTensor, kTensorAlignment, kTensorAlignment, kInt64},
      {kTensor, kTensorType, kTensorType, kDataType},
      {kTensor, kTensorDimensions, kTensorStrides, kInt64},
      {kTensor, kTensorId, kTensorId, kInt64},
      {kTensor, kTensorVirtual, kTensorVirtual, kBoolean},
  };
  for (const Rule& rule : kRules)
    if (rule.kind == kind && rule.first <= name && name <= rule.last) return rule.type;
  return -1;
}

/// A plan's engine, and all that it computes: every node with its numbers and the nodes it refers to, those first.
class PlanText {
 public:
  static std::string write(const Node& plan) {
    PlanText t;
    const Node& config = plan.node(kPlanConfig);
    const std::size_t graph = t.add(config.node(kHeuristicsGraph));
    std::ostringstream all;
    all << "plan " << config.engine << ' ' << graph << ' ' << t.count_ << t.out_.str() << " end";
    return all.str();
  }

  /// The configuration that a plan of the text has, owned by `nodes`; null where the text is none.
  static const Node* read(const std::string& text, std::list<Node>& nodes) {
    std::istringstream in(text);
    std::string word;
    int engine = 0;
    std::size_t graph = 0, count = 0;
    if (!(in >> word >> engine >> graph >> count) || word != "plan") return nullptr;
    std::vector<const Node*> known;
    for (std::size_t i = 0; i < count; ++i) {
      Node& n = nodes.emplace_back();
      std::size_t attributes = 0;
      in >> n.kind >> attributes;
      for (std::size_t k = 0; k < attributes; ++k) {
        char what = 0;
        int name = 0;
        std::size_t values = 0;
        in >> what >> name >> values;
        for (std::int64_t v = 0; values > 0 && in >> v; --values) {
          if (what == 'n')
            n.numbers[name].push_back(v);
          else if (static_cast<std::size_t>(v) < known.size())
            n.nodes[name].push_back(known[static_cast<std::size_t>(v)]);
        }
      }
      n.finished = true;
      known.push_back(&n);
    }
    if (!(in >> word) || word != "end" || graph >= known.size()) return nullptr;
    Node& config = nodes.emplace_back();
    config.kind = kEngineConfig;
    config.engine = engine;
    config.nodes[kHeuristicsGraph] = {known[graph]};
    return &config;
  }

 private:
  std::size_t add(const Node& n) {
    const auto found = known_.find(&n);
    if (found != known_.end()) return found->second;
    std::ostringstream own;
    own << ' ' << n.kind << ' ' << n.numbers.size() + n.nodes.size();
    for (const auto& [name, values] : n.numbers) {
      own << " n " << name << ' ' << values.size();
      for (const std::int64_t v : values) own << ' ' << v;
    }
    for (const auto& [name, nodes] : n.nodes) {
      own << " d " << name << ' ' << nodes.size();
      for (const Node* other : nodes) own << ' ' << add(*other);
    }
    out_ << own.str();
    return known_[&n] = count_++;
  }

  std::map<const Node*, std::size_t> known_;
  std::size_t count_ = 0;
  std::ostringstream out_;
};

}  // namespace eq::cudnn
