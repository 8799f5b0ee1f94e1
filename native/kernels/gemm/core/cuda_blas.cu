// cuBLASLt through dlopen: blas.h. No kernels. Its header is not needed for building: the few types and numbers used
// here are part of its stable interface (cublasLt.h of CUDA 12 and 13).
//
// Row-major C = A B is asked for as column-major C^T = B^T A^T. Sums are f32; f32 operands are multiplied in f32.
#include "kernels/gemm/core/blas.h"

#include <array>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <vector>

#if !EQ_SIMT
#include <dlfcn.h>

#include "runtime/cuda/external.h"
#endif

namespace eq::tile {

#if EQ_SIMT

bool blas_usable(Device&) { return false; }
std::string blas_state() { return "not in this build"; }
bool blas_product(Device&, const OpInfo&, const Gemm&) { return false; }

#else

namespace {

namespace lt {
using Handle = struct Context*;
using Desc = struct MatmulDesc*;
using Layout = struct MatrixLayout*;
using Preference = struct MatmulPreference*;
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
constexpr int kSuccess = 0, kFloat = 0, kBf16 = 14, kCompute32F = 68, kNoTranspose = 0, kTranspose = 1;
enum DescAttribute { kTransA = 3, kTransB = 4, kEpilogue = 7, kBiasPointer = 8, kBiasType = 26 };
enum LayoutAttribute { kBatchCount = 5, kBatchOffset = 6 };
enum PreferenceAttribute { kMaxWorkspace = 1 };
enum Epilogue { kPlain = 1, kRelu = 2, kBias = 4, kReluBias = 6 };
}  // namespace lt

struct Library {
  int (*create)(lt::Handle*) = nullptr;
  std::size_t (*version)() = nullptr;
  int (*desc_create)(lt::Desc*, int, int) = nullptr;
  int (*desc_set)(lt::Desc, int, const void*, std::size_t) = nullptr;
  int (*desc_destroy)(lt::Desc) = nullptr;
  int (*layout_create)(lt::Layout*, int, std::uint64_t, std::uint64_t, std::int64_t) = nullptr;
  int (*layout_set)(lt::Layout, int, const void*, std::size_t) = nullptr;
  int (*layout_destroy)(lt::Layout) = nullptr;
  int (*preference_create)(lt::Preference*) = nullptr;
  int (*preference_set)(lt::Preference, int, const void*, std::size_t) = nullptr;
  int (*preference_destroy)(lt::Preference) = nullptr;
  int (*heuristic)(lt::Handle, lt::Desc, lt::Layout, lt::Layout, lt::Layout, lt::Layout, lt::Preference, int,
                   lt::Heuristic*, int*) = nullptr;
  int (*matmul)(lt::Handle, lt::Desc, const void*, const void*, lt::Layout, const void*, lt::Layout, const void*,
                const void*, lt::Layout, void*, lt::Layout, const lt::Algorithm*, void*, std::size_t,
                cudaStream_t) = nullptr;
  lt::Handle handle = nullptr;
  std::string state;
};

constexpr std::size_t kWorkspace = std::size_t{32} << 20;

Library open_library() {
  Library l;
  const char* wanted = std::getenv("EQUIPOISE_CUBLASLT");
  if (wanted && std::strcmp(wanted, "0") == 0) {
    l.state = "off (EQUIPOISE_CUBLASLT=0)";
    return l;
  }
  void* file = nullptr;
  std::vector<const char*> names{"libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"};
  if (wanted) names = {wanted};
  for (const char* name : names) {
    file = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    l.state = name;
    if (file) break;
  }
  if (!file) {
    l.state = wanted ? concat("not found: ", wanted) : "not installed";
    return l;
  }
  bool complete = true;
  const auto find = [&](auto& function, const char* name) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(file, name));
    complete = complete && function;
  };
  find(l.create, "cublasLtCreate");
  find(l.version, "cublasLtGetVersion");
  find(l.desc_create, "cublasLtMatmulDescCreate");
  find(l.desc_set, "cublasLtMatmulDescSetAttribute");
  find(l.desc_destroy, "cublasLtMatmulDescDestroy");
  find(l.layout_create, "cublasLtMatrixLayoutCreate");
  find(l.layout_set, "cublasLtMatrixLayoutSetAttribute");
  find(l.layout_destroy, "cublasLtMatrixLayoutDestroy");
  find(l.preference_create, "cublasLtMatmulPreferenceCreate");
  find(l.preference_set, "cublasLtMatmulPreferenceSetAttribute");
  find(l.preference_destroy, "cublasLtMatmulPreferenceDestroy");
  find(l.heuristic, "cublasLtMatmulAlgoGetHeuristic");
  find(l.matmul, "cublasLtMatmul");
  if (!complete)
    l.state += " lacks functions";
  else if (l.create(&l.handle) != lt::kSuccess)
    l.handle = nullptr, l.state += " cannot be initialised";
  else
    l.state += concat(" ", l.version());
  return l;
}
Library& library() {
  static Library one = open_library();
  return one;
}

/// The pieces of one product, destroyed with it.
class Product {
 public:
  explicit Product(const Library& l) : l_(l) {}
  ~Product() {
    for (lt::Layout layout : {first_, second_, source_, result_})
      if (layout) l_.layout_destroy(layout);
    if (preference_) l_.preference_destroy(preference_);
    if (desc_) l_.desc_destroy(desc_);
  }
  Product(const Product&) = delete;
  Product& operator=(const Product&) = delete;

  bool prepare(const Gemm& g) {
    const EpilogueArgs& e = g.out.epilogue;
    const bool relu = e.activation == FusedActivation::Relu;
    const int type = g.type == DType::BF16 ? lt::kBf16 : lt::kFloat,
              out = g.out.type == DType::BF16 ? lt::kBf16 : lt::kFloat;
    bool ok = l_.desc_create(&desc_, lt::kCompute32F, lt::kFloat) == lt::kSuccess;
    // Lines are columns to the library: B's lines along k are its columns transposed, A's its columns.
    ok = ok && set(lt::kTransA, g.b.along_k ? lt::kTranspose : lt::kNoTranspose) &&
         set(lt::kTransB, g.a.along_k ? lt::kNoTranspose : lt::kTranspose) &&
         set(lt::kEpilogue, e.bias.data ? relu ? lt::kReluBias : lt::kBias
                            : relu      ? lt::kRelu
                                        : lt::kPlain);
    if (e.bias.data)
      ok = ok && set(lt::kBiasPointer, e.bias.data) &&
           set(lt::kBiasType, e.bias.dtype == DType::BF16 ? lt::kBf16 : lt::kFloat);
    ok = ok && layout(first_, type, g.b.along_k ? g.k : g.n, g.b.along_k ? g.n : g.k, g.b.pitch) &&
         layout(second_, type, g.a.along_k ? g.k : g.m, g.a.along_k ? g.m : g.k, g.a.pitch) &&
         layout(source_, out, g.n, g.m, g.out.rows.pitch) && layout(result_, out, g.n, g.m, g.out.rows.pitch);
    if (g.batches.rank == 1) {
      const auto count = static_cast<std::int32_t>(g.batches.dims[0]);
      ok = ok && batch(first_, count, g.batches.b[0]) && batch(second_, count, g.batches.a[0]) &&
           batch(source_, count, g.batches.c[0]) && batch(result_, count, g.batches.c[0]);
    }
    return ok;
  }
  bool choose(lt::Handle handle, lt::Heuristic& best) {
    const std::size_t most = kWorkspace;
    int found = 0;
    return l_.preference_create(&preference_) == lt::kSuccess &&
           l_.preference_set(preference_, lt::kMaxWorkspace, &most, sizeof most) == lt::kSuccess &&
           l_.heuristic(handle, desc_, first_, second_, source_, result_, preference_, 1, &best, &found) ==
               lt::kSuccess &&
           found > 0 && best.state == lt::kSuccess;
  }
  bool run(Device& device, lt::Handle handle, const Gemm& g, const lt::Heuristic& best, void* workspace) const {
    const EpilogueArgs& e = g.out.epilogue;
    const float alpha = e.scale, beta = e.addend ? e.beta : 0.0f;
    return l_.matmul(handle, desc_, &alpha, g.b.data, first_, g.a.data, second_, &beta, e.addend ? e.addend : g.out.c,
                     source_, g.out.c, result_, &best.algorithm, workspace, best.workspace,
                     stream(device)) == lt::kSuccess;
  }

 private:
  template <class T>
  bool set(int attribute, T value) {
    return l_.desc_set(desc_, attribute, &value, sizeof value) == lt::kSuccess;
  }
  bool layout(lt::Layout& to, int type, std::int64_t rows, std::int64_t columns, std::int64_t pitch) {
    return l_.layout_create(&to, type, static_cast<std::uint64_t>(rows), static_cast<std::uint64_t>(columns), pitch) ==
           lt::kSuccess;
  }
  bool batch(lt::Layout to, std::int32_t count, std::int64_t offset) {
    return l_.layout_set(to, lt::kBatchCount, &count, sizeof count) == lt::kSuccess &&
           l_.layout_set(to, lt::kBatchOffset, &offset, sizeof offset) == lt::kSuccess;
  }

  const Library& l_;
  lt::Desc desc_ = nullptr;
  lt::Layout first_ = nullptr, second_ = nullptr, source_ = nullptr, result_ = nullptr;
  lt::Preference preference_ = nullptr;
};

/// All that the library's choice of an algorithm depends on.
using ProductKey = std::array<std::int64_t, 17>;
ProductKey product_key(const Gemm& g) {
  const EpilogueArgs& e = g.out.epilogue;
  const auto alignment = [](const void* p) {
    return static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(p) % 256);
  };
  return {g.m,
          g.n,
          g.k,
          g.a.pitch,
          g.b.pitch,
          g.out.rows.pitch,
          g.a.along_k + 2 * g.b.along_k + 4 * (g.type == DType::BF16) + 8 * (g.out.type == DType::BF16),
          g.batches.rank,
          g.batches.dims[0],
          g.batches.a[0],
          g.batches.b[0],
          g.batches.c[0],
          (e.bias.data != nullptr) + 2 * (e.bias.dtype == DType::BF16) + 4 * static_cast<int>(e.activation),
          e.addend != nullptr,
          alignment(g.a.data),
          alignment(g.b.data),
          alignment(g.out.c)};
}

/// Whether the library's epilogues can say the product's.
bool expressible(const Gemm& g) {
  const EpilogueArgs& e = g.out.epilogue;
  const bool activation = e.activation == FusedActivation::None || e.activation == FusedActivation::Relu;
  // The library takes a bias in the result's storage, or in f32 beside results of bf16 only in some versions.
  const bool bias = !e.bias.data || (!e.bias.scalar && e.bias.dtype == g.out.type);
  return activation && bias && !e.column_scale.data && g.low_rank.k == 0 && !g.out.rows.spread && g.batches.rank <= 1 &&
         (!e.addend || e.addend_dtype == g.out.type) && g.k > 0;
}

}  // namespace

bool blas_usable(Device&) { return library().handle != nullptr; }
std::string blas_state() { return library().state; }

bool blas_product(Device& device, const OpInfo& info, const Gemm& g) {
  Library& l = library();
  if (!l.handle || !expressible(g)) return false;
  Product product(l);
  if (!product.prepare(g)) return false;
  // The library's own choice costs as much as a small product: once a shape.
  static std::mutex mutex;
  static std::map<ProductKey, lt::Heuristic> known;
  lt::Heuristic best{};
  {
    const std::lock_guard lock(mutex);
    const ProductKey key = product_key(g);
    auto it = known.find(key);
    if (it == known.end()) {
      if (!product.choose(l.handle, best)) best.state = -1;
      it = known.emplace(key, best).first;
    }
    best = it->second;
  }
  if (best.state != lt::kSuccess) return false;
  const Tensor workspace = device.empty(DType::Bool, {static_cast<std::int64_t>(best.workspace)});
  return launch_external(device, info, [&] { return product.run(device, l.handle, g, best, workspace.data()); });
}

#endif

}  // namespace eq::tile
