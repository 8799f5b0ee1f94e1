// A stand-in for cuBLASLt on host memory, for tests: it takes the calls as the library's documentation has them, in
// terms of column-major matrices, and refuses what that does not allow.
#include "runtime/cuda/cublaslt_api.h"

#include <cstdlib>
#include <cstring>

#include "runtime/dtype.h"
#include "simt/work_queue.h"

namespace eq::cublaslt {

namespace {

constexpr int kRefused = 7;  // CUBLAS_STATUS_INVALID_VALUE

bool known_type(int type) { return type == kFloat || type == kBf16; }
std::size_t size_of(int type) { return type == kFloat ? 4 : 2; }
float load(const void* p, int type, std::int64_t i) {
  return type == kFloat ? static_cast<const float*>(p)[i] : static_cast<float>(static_cast<const bf16*>(p)[i]);
}
void store(void* p, int type, std::int64_t i, float v) {
  if (type == kFloat)
    static_cast<float*>(p)[i] = v;
  else
    static_cast<bf16*>(p)[i] = bf16(v);
}

template <class T>
bool take(T& to, const void* from, std::size_t bytes) {
  if (bytes != sizeof to) return false;
  std::memcpy(&to, from, bytes);
  return true;
}

}  // namespace

struct Context {};
struct MatmulDesc {
  std::int32_t trans_a = kNoTranspose, trans_b = kNoTranspose, bias_type = -1;
  std::uint32_t epilogue = kPlain;
  const void* bias = nullptr;
};
struct MatrixLayout {
  int type;
  std::uint64_t rows, columns;
  std::int64_t pitch;
  std::int32_t batch = 1;
  std::int64_t offset = 0;
};
struct MatmulPreference {
  std::uint64_t workspace = 0;
  std::uint32_t reductions = ~0u, alignment[4] = {256, 256, 256, 256};
};

namespace {

struct Operand {
  const void* data;
  MatrixLayout layout;
  bool transposed = false;

  std::uint64_t rows() const { return transposed ? layout.columns : layout.rows; }
  std::uint64_t columns() const { return transposed ? layout.rows : layout.columns; }
  float at(std::int64_t row, std::int64_t column, std::int64_t batch) const {
    const std::int64_t i = transposed ? column : row, j = transposed ? row : column;
    return load(data, layout.type, batch * layout.offset + j * layout.pitch + i);
  }
};

struct Product {
  Operand a, b, c;
  void* d;
  MatrixLayout result;
  MatmulDesc desc;
  float alpha, beta;

  /// D = epilogue(alpha op(A) op(B) + beta C + bias over rows); each sum in f32, in order.
  void compute() const {
    const auto m = static_cast<std::int64_t>(result.rows), n = static_cast<std::int64_t>(result.columns),
               k = static_cast<std::int64_t>(a.columns());
    for (std::int64_t batch = 0; batch < result.batch; ++batch)
      for (std::int64_t j = 0; j < n; ++j)
        for (std::int64_t i = 0; i < m; ++i) {
          float sum = 0;
          for (std::int64_t t = 0; t < k; ++t) sum += a.at(i, t, batch) * b.at(t, j, batch);
          float v = alpha * sum;
          if (beta != 0.0f) v += beta * c.at(i, j, batch);
          if (desc.epilogue & kBias) v += load(desc.bias, desc.bias_type, i);
          if (desc.epilogue & kRelu) v = v > 0 ? v : 0;
          store(d, result.type, batch * result.offset + j * result.pitch + i, v);
        }
  }
};

bool fits(const MatmulDesc& desc, const MatrixLayout& a, const MatrixLayout& b, const MatrixLayout& c,
          const MatrixLayout& d) {
  const Operand first{nullptr, a, desc.trans_a == kTranspose}, second{nullptr, b, desc.trans_b == kTranspose};
  const bool bias = (desc.epilogue & kBias) == 0 || (desc.bias && desc.bias_type == d.type);
  return first.rows() == d.rows && first.columns() == second.rows() && second.columns() == d.columns &&
         c.rows == d.rows && c.columns == d.columns && a.type == b.type && c.type == d.type && a.batch == d.batch &&
         b.batch == d.batch && c.batch == d.batch && bias && (a.type == kBf16 || d.type == kFloat);
}

}  // namespace

extern "C" {
#define EQ_EXPORT __attribute__((visibility("default")))

EQ_EXPORT std::size_t cublasLtGetVersion() { return 0; }
EQ_EXPORT int cublasLtCreate(Handle* handle) {
  static Context one;
  *handle = &one;
  return kSuccess;
}
EQ_EXPORT int cublasLtMatmulDescCreate(Desc* desc, int compute, int scale) {
  if (compute != kCompute32F || scale != kFloat) return kRefused;
  *desc = new MatmulDesc;
  return kSuccess;
}
EQ_EXPORT int cublasLtMatmulDescSetAttribute(Desc desc, int attribute, const void* value, std::size_t bytes) {
  bool ok = false;
  if (attribute == kTransA) ok = take(desc->trans_a, value, bytes);
  if (attribute == kTransB) ok = take(desc->trans_b, value, bytes);
  if (attribute == kEpilogue) ok = take(desc->epilogue, value, bytes);
  if (attribute == kBiasPointer) ok = take(desc->bias, value, bytes);
  if (attribute == kBiasType) ok = take(desc->bias_type, value, bytes);
  return ok ? kSuccess : kRefused;
}
EQ_EXPORT int cublasLtMatmulDescDestroy(Desc desc) { return delete desc, kSuccess; }
EQ_EXPORT int cublasLtMatrixLayoutCreate(Layout* layout, int type, std::uint64_t rows, std::uint64_t columns,
                                         std::int64_t pitch) {
  if (!known_type(type) || rows == 0 || columns == 0 || pitch < static_cast<std::int64_t>(rows)) return kRefused;
  *layout = new MatrixLayout{type, rows, columns, pitch};
  return kSuccess;
}
EQ_EXPORT int cublasLtMatrixLayoutSetAttribute(Layout layout, int attribute, const void* value, std::size_t bytes) {
  bool ok = false;
  if (attribute == kBatchCount) ok = take(layout->batch, value, bytes);
  if (attribute == kBatchOffset) ok = take(layout->offset, value, bytes);
  return ok ? kSuccess : kRefused;
}
EQ_EXPORT int cublasLtMatrixLayoutDestroy(Layout layout) { return delete layout, kSuccess; }
EQ_EXPORT int cublasLtMatmulPreferenceCreate(Preference* preference) {
  *preference = new MatmulPreference;
  return kSuccess;
}
EQ_EXPORT int cublasLtMatmulPreferenceSetAttribute(Preference p, int attribute, const void* value, std::size_t bytes) {
  bool ok = false;
  if (attribute == kMaxWorkspace) ok = take(p->workspace, value, bytes);
  if (attribute == kReductions) ok = take(p->reductions, value, bytes);
  for (int i = 0; i < 4; ++i)
    if (attribute == kAlignmentA + i) ok = take(p->alignment[i], value, bytes);
  return ok ? kSuccess : kRefused;
}
EQ_EXPORT int cublasLtMatmulPreferenceDestroy(Preference preference) { return delete preference, kSuccess; }

/// The algorithm holds the alignments that it was chosen for, which the product must keep.
EQ_EXPORT int cublasLtMatmulAlgoGetHeuristic(Handle, Desc desc, Layout a, Layout b, Layout c, Layout d,
                                             Preference preference, int wanted, Heuristic* found, int* count) {
  *count = 0;
  if (wanted < 1 || preference->reductions != kInComputeType || !fits(*desc, *a, *b, *c, *d)) return kRefused;
  *found = {};
  for (int i = 0; i < 4; ++i) found->algorithm.data[i] = preference->alignment[i];
  found->workspace = 256;
  *count = 1;
  return kSuccess;
}

EQ_EXPORT int cublasLtMatmul(Handle, Desc desc, const void* alpha, const void* a, Layout a_layout, const void* b,
                             Layout b_layout, const void* beta, const void* c, Layout c_layout, void* d,
                             Layout d_layout, const Algorithm* algorithm, void* workspace, std::size_t bytes,
                             Stream stream) {
  const void* operands[] = {a, b, c, d};
  const MatrixLayout* layouts[] = {a_layout, b_layout, c_layout, d_layout};
  for (int i = 0; i < 4; ++i)
    for (const std::uintptr_t at : {reinterpret_cast<std::uintptr_t>(operands[i]),
                                    static_cast<std::uintptr_t>(layouts[i]->offset) * size_of(layouts[i]->type)})
      if (at % algorithm->data[i] != 0) return kRefused;
  if (!fits(*desc, *a_layout, *b_layout, *c_layout, *d_layout) || bytes < 256 ||
      reinterpret_cast<std::uintptr_t>(workspace) % 256 != 0)
    return kRefused;
  const Product product{{a, *a_layout, desc->trans_a == kTranspose},
                        {b, *b_layout, desc->trans_b == kTranspose},
                        {c, *c_layout},
                        d,
                        *d_layout,
                        *desc,
                        *static_cast<const float*>(alpha),
                        *static_cast<const float*>(beta)};
  static_cast<simt::WorkQueue*>(stream)->add([product, workspace] {
    std::memset(workspace, 0xff, 256);
    product.compute();
  });
  return kSuccess;
}
}

}  // namespace eq::cublaslt
