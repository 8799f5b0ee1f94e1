#include "dispatch.h"
#include "scratch.h"

#if EQ_ISA_BASE

#include <cstdlib>
#include <cstring>
#include <new>

namespace eq {

namespace {

MatrixIsa choose() {
  MatrixIsa best = static_cast<MatrixIsa>(active_isa());
#if defined(EQ_MULTI_ISA)
  // active_isa() honours a lower EQUIPOISE_ISA.
  if (active_isa() != Isa::Avx512) return best;
  const char* env = std::getenv("EQUIPOISE_ISA");
  const bool lowered = env && std::strcmp(env, "avx512") == 0;
  if (cpu_features().avx512_bf16 && !lowered) best = MatrixIsa::Avx512Bf16;
#endif
  return best;
}

struct Scratch {
  std::byte* data = nullptr;
  std::size_t bytes = 0;
  ~Scratch() { ::operator delete(data, std::align_val_t{64}); }
};

}  // namespace

MatrixIsa matrix_isa() {
  static const MatrixIsa isa = choose();
  return isa;
}

const char* matrix_isa_name(MatrixIsa isa) {
  switch (isa) {
    case MatrixIsa::Avx512Bf16:
      return "avx512bf16";
    case MatrixIsa::Amx:
      return "amx";
    default:
      return isa_name(static_cast<Isa>(isa));
  }
}

std::byte* gemm_scratch(std::size_t bytes) {
  thread_local Scratch scratch;
  if (scratch.bytes < bytes) {
    ::operator delete(scratch.data, std::align_val_t{64});
    scratch.data = nullptr;
    scratch.bytes = 0;
    scratch.data = static_cast<std::byte*>(::operator new(bytes, std::align_val_t{64}));
    scratch.bytes = bytes;
  }
  return scratch.data;
}

}  // namespace eq

#endif
