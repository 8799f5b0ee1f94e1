// Stacks and the switch between them.
#pragma once

#include <cstddef>
#include <cstdint>

#include <sys/mman.h>
#include <unistd.h>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

#include "runtime/status.h"

namespace eq::simt {

/// A stack and where it stopped. Its lowest page is inaccessible, so that an overflow faults.
struct Fiber {
  std::byte* stack = nullptr;
  std::size_t bytes = 0;
#if defined(__x86_64__)
  void* top = nullptr;
#else
  ucontext_t context;
#endif

  void allocate(std::size_t size) {
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    void* p = mmap(nullptr, size + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) throw RangeError("simt: no memory for a thread's stack");
    mprotect(p, page, PROT_NONE);
    stack = static_cast<std::byte*>(p) + page;
    bytes = size;
  }
  /// The next switch to this fiber calls `entry`, which must not return.
  void start(void (*entry)());
};

#if defined(__x86_64__)

/// Saves the callee's registers on one stack and restores them from the other.
extern "C" void eq_simt_switch(void** from, void* to);
asm(R"(
.text
.type eq_simt_switch, @function
eq_simt_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size eq_simt_switch, .-eq_simt_switch
)");

inline void Fiber::start(void (*entry)()) {
  auto** words = reinterpret_cast<void**>(stack + bytes - 64);
  // The entry is reached by `ret`: the stack must then be 8 bytes off a multiple of 16, as after a call.
  for (int i = 0; i < 6; ++i) words[i] = nullptr;
  words[6] = reinterpret_cast<void*>(entry);
  words[7] = nullptr;
  top = words;
}
inline void switch_fiber(Fiber& from, Fiber& to) { eq_simt_switch(&from.top, to.top); }

#else

inline void Fiber::start(void (*entry)()) {
  getcontext(&context);
  context.uc_stack.ss_sp = stack;
  context.uc_stack.ss_size = bytes;
  context.uc_link = nullptr;
  makecontext(&context, entry, 0);
}
inline void switch_fiber(Fiber& from, Fiber& to) { swapcontext(&from.context, &to.context); }

#endif

}  // namespace eq::simt
