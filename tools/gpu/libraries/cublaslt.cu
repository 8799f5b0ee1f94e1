// cuBLASLt against its headers, and what of it works without a GPU: descriptors of a product are made, read back and
// freed by the real library.   cublaslt FILE_OF_THE_LIBRARY
#include <cublasLt.h>
#include <dlfcn.h>

#include <cstdio>

#include "kernels/gemm/core/cublaslt_product.h"
#include "prototypes.h"

namespace lt = eq::cublaslt;

#define CHECK_CALL(member, symbol, result, parameters) SAME_CALL(lt::Api, member, symbol)
EQ_CUBLASLT_FUNCTIONS(CHECK_CALL)

static_assert(sizeof(lt::Algorithm) == sizeof(cublasLtMatmulAlgo_t));
static_assert(sizeof(lt::Heuristic) == sizeof(cublasLtMatmulHeuristicResult_t));
static_assert(offsetof(lt::Heuristic, algorithm) == offsetof(cublasLtMatmulHeuristicResult_t, algo));
static_assert(offsetof(lt::Heuristic, workspace) == offsetof(cublasLtMatmulHeuristicResult_t, workspaceSize));
static_assert(offsetof(lt::Heuristic, state) == offsetof(cublasLtMatmulHeuristicResult_t, state));
static_assert(offsetof(lt::Heuristic, waves) == offsetof(cublasLtMatmulHeuristicResult_t, wavesCount));
SAME_NUMBER(lt::kSuccess, CUBLAS_STATUS_SUCCESS)
SAME_NUMBER(lt::kFloat, CUDA_R_32F)
SAME_NUMBER(lt::kBf16, CUDA_R_16BF)
SAME_NUMBER(lt::kCompute32F, CUBLAS_COMPUTE_32F)
SAME_NUMBER(lt::kNoTranspose, CUBLAS_OP_N)
SAME_NUMBER(lt::kTranspose, CUBLAS_OP_T)
SAME_NUMBER(lt::kTransA, CUBLASLT_MATMUL_DESC_TRANSA)
SAME_NUMBER(lt::kTransB, CUBLASLT_MATMUL_DESC_TRANSB)
SAME_NUMBER(lt::kEpilogue, CUBLASLT_MATMUL_DESC_EPILOGUE)
SAME_NUMBER(lt::kBiasPointer, CUBLASLT_MATMUL_DESC_BIAS_POINTER)
SAME_NUMBER(lt::kBiasType, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE)
SAME_NUMBER(lt::kBatchCount, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT)
SAME_NUMBER(lt::kBatchOffset, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET)
SAME_NUMBER(lt::kMaxWorkspace, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES)
SAME_NUMBER(lt::kReductions, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK)
SAME_NUMBER(lt::kAlignmentA, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES)
SAME_NUMBER(lt::kAlignmentB, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES)
SAME_NUMBER(lt::kAlignmentC, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES)
SAME_NUMBER(lt::kAlignmentD, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES)
SAME_NUMBER(lt::kPlain, CUBLASLT_EPILOGUE_DEFAULT)
SAME_NUMBER(lt::kRelu, CUBLASLT_EPILOGUE_RELU)
SAME_NUMBER(lt::kBias, CUBLASLT_EPILOGUE_BIAS)
SAME_NUMBER(lt::kReluBias, CUBLASLT_EPILOGUE_RELU_BIAS)
SAME_NUMBER(lt::kInComputeType, CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE)

namespace {

using namespace eq;
using namespace eq::tile;

/// A product of every kind of layout and epilogue.
Gemm product(int i) {
  alignas(256) static unsigned char memory[1024];
  Gemm g{};
  g.type = i & 1 ? DType::BF16 : DType::F32;
  g.m = 96, g.n = 160, g.k = 64;
  g.a = {memory, (i & 2) != 0, i & 2 ? g.k + 8 : g.m};
  g.b = {memory + 16, (i & 4) != 0, i & 4 ? g.k : g.n + 16};
  g.out.type = g.type;
  g.out.c = memory + 512;
  g.out.rows.pitch = g.n;
  if (i & 8) g.out.epilogue.bias = {memory + 32, g.out.type, false};
  if (i & 16) g.out.epilogue.activation = FusedActivation::Relu;
  if (i & 32) {
    g.batches.rank = 1;
    g.batches.dims[0] = 3;
    g.batches.a[0] = 96 * 72;
    g.batches.b[0] = 64 * 176;
    g.batches.c[0] = 96 * 160;
  }
  return g;
}

}  // namespace

int main(int, char** arguments) {
  void* file = dlopen(arguments[1], RTLD_NOW | RTLD_LOCAL);
  if (!file) return std::fprintf(stderr, "%s\n", dlerror()), 1;
  lt::Api api;
  const auto find = [&](auto& function, const char* name) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(file, name));
    return function != nullptr;
  };
  if (!api.load(find)) return std::fprintf(stderr, "functions are missing\n"), 1;
  std::printf("cuBLASLt %zu, headers %d\n", api.version(), CUBLAS_VERSION);
  if (LtProduct::alignment(reinterpret_cast<void*>(48), 0, DType::BF16) != 16 ||
      LtProduct::alignment(nullptr, 0, DType::F32) != 256 || LtProduct::alignment(nullptr, 3, DType::BF16) != 2)
    return std::fprintf(stderr, "alignment is wrong\n"), 1;
  int prepared = 0;
  for (int i = 0; i < 64; ++i) {
    LtProduct p(api);
    prepared += LtProduct::expressible(product(i)) && p.prepare(product(i));
  }
  std::printf("descriptors of %d of 64 products\n", prepared);
  lt::Handle handle = nullptr;
  const int created = api.create(&handle);
  if (created != lt::kSuccess) {
    std::printf("no handle without a GPU (status %d): no algorithms, no product\n", created);
    return prepared == 64 ? 0 : 1;
  }
  int chosen = 0;
  for (int i = 0; i < 64; ++i) {
    LtProduct p(api);
    lt::Heuristic best{};
    chosen += p.prepare(product(i)) && p.choose(handle, best);
  }
  std::printf("algorithms for %d of 64 products\n", chosen);
  return prepared == 64 && chosen == 64 ? 0 : 1;
}
