// cuBLASLt through dlopen: blas.h. No kernels. It has never run on a GPU: its declarations and descriptors have been
// checked against the real library (tools/gpu/check-libraries.sh), and the calls against a stand-in that computes on
// the host (native/simt/libraries/cublaslt.cc).
#include "kernels/gemm/core/blas.h"

#include <array>
#include <map>
#include <mutex>

#include "kernels/gemm/core/cublaslt_product.h"
#include "runtime/cuda/external.h"

namespace eq::tile {

namespace {

struct Library {
  cublaslt::Api api;
  cublaslt::Handle handle = nullptr;
  std::string state;
};

Library open_library() {
  Library l;
  const OpenedLibrary opened =
      OpenedLibrary::open("EQUIPOISE_CUBLASLT", {"libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"});
  l.state = opened.state;
  if (!opened.file) return l;
  if (!l.api.load([&](auto& function, const char* name) { return opened.find(function, name); }))
    l.state += " lacks functions";
  else if (l.api.create(&l.handle) != cublaslt::kSuccess)
    l.handle = nullptr, l.state += " cannot be initialised";
  else
    l.state += concat(" ", l.api.version());
  return l;
}
Library& library() {
  static Library one = open_library();
  return one;
}

/// All that the library's choice of an algorithm depends on.
using ProductKey = std::array<std::int64_t, 19>;
ProductKey product_key(const Gemm& g) {
  const EpilogueArgs& e = g.out.epilogue;
  const auto alignment = [](const void* p) { return std::int64_t{LtProduct::alignment(p, 0, DType::F32)}; };
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
          alignment(g.out.c),
          alignment(e.addend),
          alignment(e.bias.data)};
}

}  // namespace

bool blas_usable(Device&) { return library().handle != nullptr; }
std::string blas_state() { return library().state; }

bool blas_product(Device& device, const OpInfo& info, const Gemm& g) {
  const Library& l = library();
  if (!l.handle || !LtProduct::expressible(g)) return false;
  LtProduct product(l.api);
  if (!product.prepare(g)) return false;
  // The library's own choice costs as much as a small product: once a shape.
  static std::mutex mutex;
  static std::map<ProductKey, cublaslt::Heuristic> known;
  cublaslt::Heuristic best{};
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
  if (best.state != cublaslt::kSuccess) return false;
  const Tensor workspace = device.empty(DType::Bool, {static_cast<std::int64_t>(best.workspace)});
  return launch_external(device, info,
                         [&] { return product.run(l.handle, g, best, workspace.data(), external_stream(device)); });
}

}  // namespace eq::tile
