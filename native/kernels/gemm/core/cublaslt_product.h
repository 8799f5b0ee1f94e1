// One product said in cuBLASLt's terms. Row-major C = A B is asked for as column-major C^T = B^T A^T. Sums are f32 to
// the end; f32 operands are multiplied in f32.
#pragma once

#include <algorithm>

#include "kernels/gemm/core/tile_gemm.h"
#include "runtime/cuda/cublaslt_api.h"

namespace eq::tile {

/// The descriptors of one product, destroyed with it.
class LtProduct {
 public:
  static constexpr std::size_t kMostWorkspace = std::size_t{32} << 20;

  explicit LtProduct(const cublaslt::Api& api) : api_(api) {}
  ~LtProduct() {
    for (cublaslt::Layout layout : {first_, second_, source_, result_})
      if (layout) api_.layout_destroy(layout);
    if (preference_) api_.preference_destroy(preference_);
    if (desc_) api_.desc_destroy(desc_);
  }
  LtProduct(const LtProduct&) = delete;
  LtProduct& operator=(const LtProduct&) = delete;

  /// Whether the library's epilogues and layouts can say the product.
  static bool expressible(const Gemm& g) {
    const EpilogueArgs& e = g.out.epilogue;
    const bool activation = e.activation == FusedActivation::None || e.activation == FusedActivation::Relu;
    // The library takes a bias in the result's storage, or in f32 beside results of bf16 only in some versions.
    const bool bias = !e.bias.data || (!e.bias.scalar && e.bias.dtype == g.out.type);
    return activation && bias && !e.column_scale.data && g.low_rank.k == 0 && !g.out.rows.spread &&
           g.batches.rank <= 1 && (!e.addend || e.addend_dtype == g.out.type) && g.k > 0;
  }

  /// Makes the descriptors; false where the library refuses one.
  bool prepare(const Gemm& g) {
    using namespace cublaslt;
    const EpilogueArgs& e = g.out.epilogue;
    const bool relu = e.activation == FusedActivation::Relu;
    const int type = g.type == DType::BF16 ? kBf16 : kFloat, out = g.out.type == DType::BF16 ? kBf16 : kFloat;
    bool ok = api_.desc_create(&desc_, kCompute32F, kFloat) == kSuccess;
    // Lines are columns to the library: B's lines along k are its columns transposed, A's its columns.
    ok = ok && set(kTransA, g.b.along_k ? kTranspose : kNoTranspose) &&
         set(kTransB, g.a.along_k ? kNoTranspose : kTranspose) &&
         set<std::uint32_t>(kEpilogue, e.bias.data ? relu ? kReluBias : kBias
                                       : relu      ? kRelu
                                                   : kPlain);
    if (e.bias.data)
      ok = ok && set(kBiasPointer, e.bias.data) && set(kBiasType, e.bias.dtype == DType::BF16 ? kBf16 : kFloat);
    ok = ok && layout(first_, type, g.b.along_k ? g.k : g.n, g.b.along_k ? g.n : g.k, g.b.pitch) &&
         layout(second_, type, g.a.along_k ? g.k : g.m, g.a.along_k ? g.m : g.k, g.a.pitch) &&
         layout(source_, out, g.n, g.m, g.out.rows.pitch) && layout(result_, out, g.n, g.m, g.out.rows.pitch);
    if (g.batches.rank == 1) {
      const auto count = static_cast<std::int32_t>(g.batches.dims[0]);
      ok = ok && batch(first_, count, g.batches.b[0]) && batch(second_, count, g.batches.a[0]) &&
           batch(source_, count, g.batches.c[0]) && batch(result_, count, g.batches.c[0]);
    }
    return ok && prefer(g);
  }

  /// The library's own choice of an algorithm; false where it has none.
  bool choose(cublaslt::Handle handle, cublaslt::Heuristic& best) const {
    int found = 0;
    return api_.heuristic(handle, desc_, first_, second_, source_, result_, preference_, 1, &best, &found) ==
               cublaslt::kSuccess &&
           found > 0 && best.state == cublaslt::kSuccess;
  }

  /// Queues the product on `stream`; false where the library refuses it.
  bool run(cublaslt::Handle handle, const Gemm& g, const cublaslt::Heuristic& best, void* workspace,
           cublaslt::Stream stream) const {
    const EpilogueArgs& e = g.out.epilogue;
    const float alpha = e.scale, beta = e.addend ? e.beta : 0.0f;
    return api_.matmul(handle, desc_, &alpha, g.b.data, first_, g.a.data, second_, &beta, e.addend ? e.addend : g.out.c,
                       source_, g.out.c, result_, &best.algorithm, workspace, best.workspace,
                       stream) == cublaslt::kSuccess;
  }

  /// To what power of two up to 256 every matrix of an operand is aligned.
  static std::uint32_t alignment(const void* data, std::int64_t batch_offset, DType type) {
    const std::uintptr_t bits =
        reinterpret_cast<std::uintptr_t>(data) | static_cast<std::uintptr_t>(batch_offset) * dtype_size(type) | 256;
    return static_cast<std::uint32_t>(bits & (~bits + 1));
  }

 private:
  template <class T>
  bool set(cublaslt::DescAttribute attribute, T value) {
    return api_.desc_set(desc_, attribute, &value, sizeof value) == cublaslt::kSuccess;
  }
  template <class T>
  bool set(cublaslt::PreferenceAttribute attribute, T value) {
    return api_.preference_set(preference_, attribute, &value, sizeof value) == cublaslt::kSuccess;
  }
  bool layout(cublaslt::Layout& to, int type, std::int64_t rows, std::int64_t columns, std::int64_t pitch) {
    return api_.layout_create(&to, type, static_cast<std::uint64_t>(rows), static_cast<std::uint64_t>(columns),
                              pitch) == cublaslt::kSuccess;
  }
  bool batch(cublaslt::Layout to, std::int32_t count, std::int64_t offset) {
    return api_.layout_set(to, cublaslt::kBatchCount, &count, sizeof count) == cublaslt::kSuccess &&
           api_.layout_set(to, cublaslt::kBatchOffset, &offset, sizeof offset) == cublaslt::kSuccess;
  }
  /// What the library may count on. Unless told otherwise it takes every operand to be aligned to 256 bytes.
  bool prefer(const Gemm& g) {
    using namespace cublaslt;
    const bool batched = g.batches.rank == 1;
    const EpilogueArgs& e = g.out.epilogue;
    const std::uint32_t d = alignment(g.out.c, batched ? g.batches.c[0] : 0, g.out.type);
    const std::uint32_t c = e.addend ? alignment(e.addend, batched ? g.batches.c[0] : 0, g.out.type) : d;
    return api_.preference_create(&preference_) == kSuccess && set(kMaxWorkspace, kMostWorkspace) &&
           set<std::uint32_t>(kReductions, kInComputeType) &&
           set(kAlignmentA, alignment(g.b.data, batched ? g.batches.b[0] : 0, g.type)) &&
           set(kAlignmentB, alignment(g.a.data, batched ? g.batches.a[0] : 0, g.type)) && set(kAlignmentC, c) &&
           set(kAlignmentD, d);
  }

  const cublaslt::Api& api_;
  cublaslt::Desc desc_ = nullptr;
  cublaslt::Layout first_ = nullptr, second_ = nullptr, source_ = nullptr, result_ = nullptr;
  cublaslt::Preference preference_ = nullptr;
};

}  // namespace eq::tile
