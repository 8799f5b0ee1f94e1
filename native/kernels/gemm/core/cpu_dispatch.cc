#include "dispatch.h"
#include "scratch.h"

#if EQ_ISA_BASE

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <new>
#if defined(__linux__)
#include <sys/wait.h>
#include <unistd.h>
#endif

#if defined(EQ_MULTI_ISA)
namespace eq::amx {
bool tiles_work();
}
#endif

namespace eq {

namespace {

#if defined(EQ_MULTI_ISA)
/// Tries the AMX microkernels in a child process, so that neither a wrong result nor a fault reaches this one.
bool tiles_work_here() {
#if defined(__linux__)
  const pid_t child = fork();
  if (child == 0) _exit(amx::tiles_work() ? 0 : 1);
  if (child < 0) return false;
  int status = 0;
  while (waitpid(child, &status, 0) != child)
    if (errno != EINTR) return false;
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
#else
  return false;
#endif
}
#endif

MatrixIsa choose() {
  MatrixIsa best = static_cast<MatrixIsa>(active_isa());
#if defined(EQ_MULTI_ISA)
  // active_isa() honours a lower EQUIPOISE_ISA.
  if (active_isa() != Isa::Avx512) return best;
  const char* env = std::getenv("EQUIPOISE_ISA");
  const auto asked = [env](const char* name) { return env && std::strcmp(env, name) == 0; };
  if (!cpu_features().avx512_bf16 || asked("avx512")) return best;
  best = MatrixIsa::Avx512Bf16;
  if (cpu_features().amx_bf16 && !asked("avx512bf16") && tiles_work_here()) best = MatrixIsa::Amx;
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
