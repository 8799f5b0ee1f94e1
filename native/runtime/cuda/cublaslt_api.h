// The part of cuBLASLt's interface that is used here, declared anew, so that its headers are not needed for building.
// tools/gpu/check-libraries.sh compares every line with the headers of CUDA 12 and 13.
#pragma once

#include <cstddef>
#include <cstdint>

#include "runtime/cuda/library_table.h"

namespace eq::cublaslt {

using Handle = struct Context*;
using Desc = struct MatmulDesc*;
using Layout = struct MatrixLayout*;
using Preference = struct MatmulPreference*;
using Stream = void*;

struct Algorithm {
  std::uint64_t data[8];
};
struct Heuristic {
  Algorithm algorithm;
  std::size_t workspace;
  int state;
  float waves;
  int reserved[4];
};

constexpr int kSuccess = 0;
/// cudaDataType_t, cublasComputeType_t, cublasOperation_t
constexpr int kFloat = 0, kBf16 = 14, kCompute32F = 68, kNoTranspose = 0, kTranspose = 1;
enum DescAttribute { kTransA = 3, kTransB = 4, kEpilogue = 7, kBiasPointer = 8, kBiasType = 26 };
enum LayoutAttribute { kBatchCount = 5, kBatchOffset = 6 };
enum PreferenceAttribute {
  kMaxWorkspace = 1,
  kReductions = 3,
  kAlignmentA = 5,
  kAlignmentB = 6,
  kAlignmentC = 7,
  kAlignmentD = 8
};
enum Epilogue { kPlain = 1, kRelu = 2, kBias = 4, kReluBias = 6 };
/// Parts of a sum are added in the compute type (f32): the default also permits the result's.
enum Reduction { kInComputeType = 2 };

// clang-format off
/// F(member, symbol, result, parameters)
#define EQ_CUBLASLT_FUNCTIONS(F) \
  F(create, cublasLtCreate, int, (Handle*)) \
  F(version, cublasLtGetVersion, std::size_t, ()) \
  F(desc_create, cublasLtMatmulDescCreate, int, (Desc*, int, int)) \
  F(desc_set, cublasLtMatmulDescSetAttribute, int, (Desc, int, const void*, std::size_t)) \
  F(desc_destroy, cublasLtMatmulDescDestroy, int, (Desc)) \
  F(layout_create, cublasLtMatrixLayoutCreate, int, (Layout*, int, std::uint64_t, std::uint64_t, std::int64_t)) \
  F(layout_set, cublasLtMatrixLayoutSetAttribute, int, (Layout, int, const void*, std::size_t)) \
  F(layout_destroy, cublasLtMatrixLayoutDestroy, int, (Layout)) \
  F(preference_create, cublasLtMatmulPreferenceCreate, int, (Preference*)) \
  F(preference_set, cublasLtMatmulPreferenceSetAttribute, int, (Preference, int, const void*, std::size_t)) \
  F(preference_destroy, cublasLtMatmulPreferenceDestroy, int, (Preference)) \
  F(heuristic, cublasLtMatmulAlgoGetHeuristic, int, \
    (Handle, Desc, Layout, Layout, Layout, Layout, Preference, int, Heuristic*, int*)) \
  F(matmul, cublasLtMatmul, int, \
    (Handle, Desc, const void*, const void*, Layout, const void*, Layout, const void*, const void*, Layout, void*, \
     Layout, const Algorithm*, void*, std::size_t, Stream))
// clang-format on

EQ_LIBRARY_TABLE(EQ_CUBLASLT_FUNCTIONS);

}  // namespace eq::cublaslt
