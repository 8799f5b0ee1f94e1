// The part of cuDNN's graph interface (cudnn_graph.h of cuDNN 9) that is used here, declared anew, so that its headers
// are not needed for building. tools/gpu/check-libraries.sh compares every line with the real ones.
//
// Everything is a descriptor: created, given attributes (an array of elements of a type), finalised.
#pragma once

#include <cstddef>
#include <cstdint>

#include "runtime/cuda/library_table.h"

namespace eq::cudnn {

using Handle = struct Context*;
using Descriptor = void*;
using Stream = void*;

constexpr int kSuccess = 0;
/// cudnnDataType_t
constexpr int kFloat = 0, kBf16 = 9;
/// cudnnConvolutionMode_t: without flipping the filter.
constexpr int kCrossCorrelation = 1;

/// cudnnBackendAttributeType_t
enum Type {
  kHandle = 0,
  kDataType = 1,
  kBoolean = 2,
  kInt64 = 3,
  kFloats = 4,
  kPointer = 6,
  kConvolutionMode = 7,
  kHeuristicMode = 8,
  kNumericalNote = 11,
  kPointwiseMode = 14,
  kDescriptor = 15,
  kChar = 24
};

/// cudnnBackendDescriptorType_t
enum Kind {
  kPointwise = 0,
  kConvolution = 1,
  kEngine = 2,
  kEngineConfig = 3,
  kEngineHeuristics = 4,
  kExecutionPlan = 5,
  kConvolutionForward = 10,
  kConvolutionBackwardData = 12,
  kPointwiseOperation = 13,
  kOperationGraph = 15,
  kVariantPack = 16,
  kTensor = 17,
  kDeviceProperties = 38
};

/// cudnnBackendAttributeName_t
enum Attribute {
  kPointwiseModeOf = 0,
  kPointwisePrecision = 1,
  kConvolutionCompute = 100,
  kConvolutionModeOf = 101,
  kConvolutionDilations = 102,
  kConvolutionStrides = 103,
  kConvolutionPost = 104,
  kConvolutionPre = 105,
  kConvolutionDims = 106,
  kHeuristicsMode = 200,
  kHeuristicsGraph = 201,
  kHeuristicsResults = 202,
  kHeuristicsDevice = 204,
  kConfigEngine = 300,
  kPlanHandle = 400,
  kPlanConfig = 401,
  kPlanWorkspace = 402,
  kPlanJson = 405,
  kPlanDevice = 407,
  kForwardAlpha = 700,
  kForwardBeta = 701,
  kForwardConvolution = 702,
  kForwardW = 703,
  kForwardX = 704,
  kForwardY = 705,
  kBackwardAlpha = 706,
  kBackwardBeta = 707,
  kBackwardConvolution = 708,
  kBackwardW = 709,
  kBackwardDx = 710,
  kBackwardDy = 711,
  kOperationPointwise = 750,
  kOperationX = 751,
  kOperationB = 752,
  kOperationY = 753,
  kGraphHandle = 800,
  kGraphOperations = 801,
  kTensorAlignment = 900,
  kTensorType = 901,
  kTensorDimensions = 902,
  kTensorStrides = 903,
  kTensorId = 906,
  kTensorVirtual = 907,
  kPackIds = 1000,
  kPackPointers = 1001,
  kPackWorkspace = 1003,
  kEngineNotes = 1303,
  kDeviceJson = 2702
};

/// cudnnPointwiseMode_t
enum Pointwise { kAdd = 0, kReluForward = 100, kGeluForward = 104, kSwishForward = 106 };
/// cudnnBackendHeurMode_t
enum HeuristicsMode { kFallback = 2, kModeA = 3 };
/// cudnnBackendNumericalNote_t
enum Note { kTensorCore = 0, kReducedReduction = 2, kFft = 3, kNondeterministic = 4, kWinograd = 5, kMostNotes = 16 };

// clang-format off
/// F(member, symbol, result, parameters)
#define EQ_CUDNN_FUNCTIONS(F) \
  F(version, cudnnGetVersion, std::size_t, ()) \
  F(create, cudnnCreate, int, (Handle*)) \
  F(set_stream, cudnnSetStream, int, (Handle, Stream)) \
  F(descriptor_create, cudnnBackendCreateDescriptor, int, (int, Descriptor*)) \
  F(descriptor_destroy, cudnnBackendDestroyDescriptor, int, (Descriptor)) \
  F(descriptor_set, cudnnBackendSetAttribute, int, (Descriptor, int, int, std::int64_t, const void*)) \
  F(descriptor_get, cudnnBackendGetAttribute, int, (Descriptor, int, int, std::int64_t, std::int64_t*, void*)) \
  F(descriptor_finalize, cudnnBackendFinalize, int, (Descriptor)) \
  F(execute, cudnnBackendExecute, int, (Handle, Descriptor, Descriptor))
// clang-format on

EQ_LIBRARY_TABLE(EQ_CUDNN_FUNCTIONS);

}  // namespace eq::cudnn
