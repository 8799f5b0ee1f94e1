// cuDNN against its headers, and what of it works without a GPU: plans for an A100 and an H100 described in JSON, made
// by the real library for convolutions of Stable Diffusion's UNet and autoencoder.   cudnn FILE_OF_THE_LIBRARY
#include <cudnn.h>
#include <dlfcn.h>

#include <chrono>
#include <cstdio>
#include <string>

#include "kernels/conv/core/cudnn_plan.h"
#include "prototypes.h"

namespace dnn = eq::cudnn;

#define CHECK_CALL(member, symbol, result, parameters) SAME_CALL(dnn::Api, member, symbol)
EQ_CUDNN_FUNCTIONS(CHECK_CALL)

SAME_NUMBER(dnn::kSuccess, CUDNN_STATUS_SUCCESS)
SAME_NUMBER(dnn::kFloat, CUDNN_DATA_FLOAT)
SAME_NUMBER(dnn::kBf16, CUDNN_DATA_BFLOAT16)
SAME_NUMBER(dnn::kCrossCorrelation, CUDNN_CROSS_CORRELATION)
SAME_NUMBER(dnn::kHandle, CUDNN_TYPE_HANDLE)
SAME_NUMBER(dnn::kDataType, CUDNN_TYPE_DATA_TYPE)
SAME_NUMBER(dnn::kBoolean, CUDNN_TYPE_BOOLEAN)
SAME_NUMBER(dnn::kInt64, CUDNN_TYPE_INT64)
SAME_NUMBER(dnn::kFloats, CUDNN_TYPE_FLOAT)
SAME_NUMBER(dnn::kPointer, CUDNN_TYPE_VOID_PTR)
SAME_NUMBER(dnn::kConvolutionMode, CUDNN_TYPE_CONVOLUTION_MODE)
SAME_NUMBER(dnn::kHeuristicMode, CUDNN_TYPE_HEUR_MODE)
SAME_NUMBER(dnn::kNumericalNote, CUDNN_TYPE_NUMERICAL_NOTE)
SAME_NUMBER(dnn::kPointwiseMode, CUDNN_TYPE_POINTWISE_MODE)
SAME_NUMBER(dnn::kDescriptor, CUDNN_TYPE_BACKEND_DESCRIPTOR)
SAME_NUMBER(dnn::kChar, CUDNN_TYPE_CHAR)
SAME_NUMBER(dnn::kPointwise, CUDNN_BACKEND_POINTWISE_DESCRIPTOR)
SAME_NUMBER(dnn::kConvolution, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR)
SAME_NUMBER(dnn::kEngine, CUDNN_BACKEND_ENGINE_DESCRIPTOR)
SAME_NUMBER(dnn::kEngineConfig, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR)
SAME_NUMBER(dnn::kEngineHeuristics, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR)
SAME_NUMBER(dnn::kExecutionPlan, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR)
SAME_NUMBER(dnn::kConvolutionForward, CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR)
SAME_NUMBER(dnn::kConvolutionBackwardData, CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR)
SAME_NUMBER(dnn::kPointwiseOperation, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR)
SAME_NUMBER(dnn::kOperationGraph, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR)
SAME_NUMBER(dnn::kVariantPack, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR)
SAME_NUMBER(dnn::kTensor, CUDNN_BACKEND_TENSOR_DESCRIPTOR)
SAME_NUMBER(dnn::kDeviceProperties, CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR)
SAME_NUMBER(dnn::kPointwiseModeOf, CUDNN_ATTR_POINTWISE_MODE)
SAME_NUMBER(dnn::kPointwisePrecision, CUDNN_ATTR_POINTWISE_MATH_PREC)
SAME_NUMBER(dnn::kConvolutionCompute, CUDNN_ATTR_CONVOLUTION_COMP_TYPE)
SAME_NUMBER(dnn::kConvolutionModeOf, CUDNN_ATTR_CONVOLUTION_CONV_MODE)
SAME_NUMBER(dnn::kConvolutionDilations, CUDNN_ATTR_CONVOLUTION_DILATIONS)
SAME_NUMBER(dnn::kConvolutionStrides, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES)
SAME_NUMBER(dnn::kConvolutionPost, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS)
SAME_NUMBER(dnn::kConvolutionPre, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS)
SAME_NUMBER(dnn::kConvolutionDims, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS)
SAME_NUMBER(dnn::kHeuristicsMode, CUDNN_ATTR_ENGINEHEUR_MODE)
SAME_NUMBER(dnn::kHeuristicsGraph, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH)
SAME_NUMBER(dnn::kHeuristicsResults, CUDNN_ATTR_ENGINEHEUR_RESULTS)
SAME_NUMBER(dnn::kHeuristicsDevice, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP)
SAME_NUMBER(dnn::kConfigEngine, CUDNN_ATTR_ENGINECFG_ENGINE)
SAME_NUMBER(dnn::kPlanHandle, CUDNN_ATTR_EXECUTION_PLAN_HANDLE)
SAME_NUMBER(dnn::kPlanConfig, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG)
SAME_NUMBER(dnn::kPlanWorkspace, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE)
SAME_NUMBER(dnn::kPlanJson, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION)
SAME_NUMBER(dnn::kPlanDevice, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP)
SAME_NUMBER(dnn::kForwardAlpha, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA)
SAME_NUMBER(dnn::kForwardBeta, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA)
SAME_NUMBER(dnn::kForwardConvolution, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC)
SAME_NUMBER(dnn::kForwardW, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W)
SAME_NUMBER(dnn::kForwardX, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X)
SAME_NUMBER(dnn::kForwardY, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y)
SAME_NUMBER(dnn::kBackwardAlpha, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA)
SAME_NUMBER(dnn::kBackwardBeta, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA)
SAME_NUMBER(dnn::kBackwardConvolution, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC)
SAME_NUMBER(dnn::kBackwardW, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W)
SAME_NUMBER(dnn::kBackwardDx, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX)
SAME_NUMBER(dnn::kBackwardDy, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY)
SAME_NUMBER(dnn::kOperationPointwise, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR)
SAME_NUMBER(dnn::kOperationX, CUDNN_ATTR_OPERATION_POINTWISE_XDESC)
SAME_NUMBER(dnn::kOperationB, CUDNN_ATTR_OPERATION_POINTWISE_BDESC)
SAME_NUMBER(dnn::kOperationY, CUDNN_ATTR_OPERATION_POINTWISE_YDESC)
SAME_NUMBER(dnn::kGraphHandle, CUDNN_ATTR_OPERATIONGRAPH_HANDLE)
SAME_NUMBER(dnn::kGraphOperations, CUDNN_ATTR_OPERATIONGRAPH_OPS)
SAME_NUMBER(dnn::kTensorAlignment, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT)
SAME_NUMBER(dnn::kTensorType, CUDNN_ATTR_TENSOR_DATA_TYPE)
SAME_NUMBER(dnn::kTensorDimensions, CUDNN_ATTR_TENSOR_DIMENSIONS)
SAME_NUMBER(dnn::kTensorStrides, CUDNN_ATTR_TENSOR_STRIDES)
SAME_NUMBER(dnn::kTensorId, CUDNN_ATTR_TENSOR_UNIQUE_ID)
SAME_NUMBER(dnn::kTensorVirtual, CUDNN_ATTR_TENSOR_IS_VIRTUAL)
SAME_NUMBER(dnn::kPackIds, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS)
SAME_NUMBER(dnn::kPackPointers, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS)
SAME_NUMBER(dnn::kPackWorkspace, CUDNN_ATTR_VARIANT_PACK_WORKSPACE)
SAME_NUMBER(dnn::kEngineNotes, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE)
SAME_NUMBER(dnn::kDeviceJson, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION)
SAME_NUMBER(dnn::kAdd, CUDNN_POINTWISE_ADD)
SAME_NUMBER(dnn::kReluForward, CUDNN_POINTWISE_RELU_FWD)
SAME_NUMBER(dnn::kGeluForward, CUDNN_POINTWISE_GELU_FWD)
SAME_NUMBER(dnn::kSwishForward, CUDNN_POINTWISE_SWISH_FWD)
SAME_NUMBER(dnn::kFallback, CUDNN_HEUR_MODE_FALLBACK)
SAME_NUMBER(dnn::kModeA, CUDNN_HEUR_MODE_A)
SAME_NUMBER(dnn::kTensorCore, CUDNN_NUMERICAL_NOTE_TENSOR_CORE)
SAME_NUMBER(dnn::kReducedReduction, CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION)
SAME_NUMBER(dnn::kFft, CUDNN_NUMERICAL_NOTE_FFT)
SAME_NUMBER(dnn::kNondeterministic, CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC)
SAME_NUMBER(dnn::kWinograd, CUDNN_NUMERICAL_NOTE_WINOGRAD)
static_assert(dnn::kMostNotes >= static_cast<int>(CUDNN_NUMERICAL_NOTE_TYPE_COUNT));

namespace {

using namespace eq;
using namespace eq::tile;

struct Gpu {
  const char* name;
  int version, processors, shared, clock, memory_clock, bus, cache;
};
// What their makers publish.
constexpr Gpu kGpus[] = {{"NVIDIA A100-SXM4-80GB", 800, 108, 166912, 1410000, 1593000, 5120, 41943040},
                         {"NVIDIA H100 80GB HBM3", 900, 132, 232448, 1980000, 2619000, 5120, 52428800}};

std::string json(const Gpu& g) {
  char text[1200];
  std::snprintf(text, sizeof text,
                "{\"maxGridSize\":[2147483647,65535,65535],\"maxBlockSize\":[1024,1024,64],\"regsPerBlock\":65536,"
                "\"multiProcessorCount\":%d,\"smCountOrigin\":0,\"warpSize\":32,\"maxSharedMemoryPerBlock\":49152,"
                "\"maxSharedMemoryPerBlockOptin\":%d,\"reservedSharedMemoryPerBlock\":1024,"
                "\"oversizedSharedMemoryPerBlock\":0,\"maxRegistersPerSM\":65536,\"maxCtasPerSM\":32,"
                "\"maxThreadsPerBlock\":1024,\"maxThreadsPerSM\":2048,\"pciDeviceId\":0,\"isTccDriver\":0,"
                "\"supportCoopLaunch\":1,\"totalGlobalMem\":85000000000,\"smClockRateKHz\":%d,"
                "\"memClockRateKHz\":%d,\"memoryBusWidth\":%d,\"l2CacheSize\":%d,\"cudaDeviceId\":0,"
                "\"deviceVer\":%d,\"driverVer\":13000,\"deviceName\":\"%s\"}",
                g.processors, g.shared, g.clock, g.memory_clock, g.bus, g.cache, g.version, g.name);
  return text;
}

class Clock {
 public:
  /// Milliseconds since the last lap.
  double lap() {
    const auto now = std::chrono::steady_clock::now();
    const double ms = std::chrono::duration<double, std::milli>(now - last_).count();
    last_ = now;
    return ms;
  }

 private:
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

struct Case {
  const char* name;
  DnnConvolution c;
};
/// [batch, side, side, channels] by a window of `taps`; `after` is the padding at the end.
DnnConvolution convolution(std::int64_t batch, std::int64_t side, std::int64_t channels, std::int64_t out_channels,
                           std::int64_t taps = 3, std::int64_t stride = 1, std::int64_t before = 1,
                           std::int64_t after = 1) {
  const std::int64_t out = (side + before + after - taps) / stride + 1;
  return {{batch, side, side, channels, out, out, out_channels, taps, taps, stride, stride, 1, 1, before, before}};
}
std::vector<Case> cases() {
  const auto with = [](DnnConvolution c, bool transposed, bool bias, FusedActivation activation, DType bias_type) {
    c.transposed = transposed, c.bias = bias, c.activation = activation, c.bias_type = bias_type;
    return c;
  };
  const auto residual = [](DnnConvolution c, DType result, DType addend) {
    c.bias = c.addend = true, c.result_type = result, c.addend_type = addend;
    return c;
  };
  using A = FusedActivation;
  const DnnConvolution wide = convolution(100, 64, 320, 320), deep = convolution(2, 16, 1280, 1280),
                       down = convolution(16, 64, 320, 320, 3, 2), edge = convolution(1, 512, 128, 128, 3, 2, 0, 1);
  return {{"64x64x320, batch 100", wide},
          {"the same, f32 bias", with(wide, false, true, A::None, DType::F32)},
          {"the same, bf16 bias", with(wide, false, true, A::None, DType::BF16)},
          {"the same, bias and relu", with(wide, false, true, A::Relu, DType::F32)},
          {"the same, bias and silu", with(wide, false, true, A::Silu, DType::F32)},
          {"the same, bias and gelu", with(wide, false, true, A::Gelu, DType::F32)},
          {"the same, bias and f32 addend to f32", residual(wide, DType::F32, DType::F32)},
          {"the same, bias and bf16 addend to bf16", residual(wide, DType::BF16, DType::BF16)},
          {"16x16x1280, f32 bias", with(deep, false, true, A::None, DType::F32)},
          {"stride 2, f32 bias", with(down, false, true, A::None, DType::F32)},
          {"stride 2, padding at the end alone", with(edge, false, true, A::None, DType::F32)},
          {"5x5, no padding", convolution(3, 20, 64, 128, 5, 1, 0, 0)},
          {"gradient of 64x64x320, batch 8", with(convolution(8, 64, 320, 320), true, false, A::None, DType::F32)},
          {"gradient of 16x16x1280", with(deep, true, false, A::None, DType::F32)},
          {"gradient of stride 2", with(down, true, false, A::None, DType::F32)}};
}

}  // namespace

int main(int, char** arguments) {
  void* file = dlopen(arguments[1], RTLD_NOW | RTLD_LOCAL);
  if (!file) return std::fprintf(stderr, "%s\n", dlerror()), 1;
  dnn::Api api;
  const auto find = [&](auto& function, const char* name) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(file, name));
    return function != nullptr;
  };
  if (!api.load(find)) return std::fprintf(stderr, "functions are missing\n"), 1;
  std::printf("cuDNN %zu, headers %d\n", api.version(), CUDNN_VERSION);
  int missing = 0;
  for (const Gpu& gpu : kGpus) {
    const std::string text = json(gpu);
    DnnDescriptor properties(api, dnn::kDeviceProperties);
    properties.set(dnn::kDeviceJson, dnn::kChar, static_cast<std::int64_t>(text.size()) + 1, text.c_str()).finish();
    if (!properties.ok()) return std::fprintf(stderr, "%s: its properties are refused\n", gpu.name), 1;
    std::printf("%s\n", gpu.name);
    for (const Case& one : cases()) {
      const DnnTarget target{nullptr, properties.raw()};
      Clock clock;
      const auto plan = DnnPlan::make(api, target, one.c);
      const double made = clock.lap();
      const std::string kept = plan ? plan->text() : "";
      clock.lap();
      const auto again = kept.empty() ? nullptr : DnnPlan::read(api, target, kept);
      const double read = clock.lap();
      // A plan that has lost its end is refused.
      const auto half = kept.empty() ? nullptr : DnnPlan::read(api, target, kept.substr(0, kept.size() / 2));
      if (again && again->workspace() == plan->workspace() && !half)
        std::printf("  %-40s workspace %lld bytes, made in %.0f ms, read from %zu bytes in %.0f ms\n", one.name,
                    static_cast<long long>(plan->workspace()), made, kept.size(), read);
      else
        std::printf("  %-40s %s\n", one.name, plan ? "NOT THE SAME WHEN READ" : "NO PLAN"), ++missing;
    }
  }
  std::printf("%d without a plan that can be made and read\n", missing);
  return missing == 0 ? 0 : 1;
}
