// What the compiler calls at the loads and stores of code compiled with -fsanitize=thread, in place of the sanitizer's
// library: races.h. This file and the rest of the shim are compiled without.
#include <cstdint>
#include <cstring>

#include "simt/races.h"

using eq::simt::Access;
using eq::simt::races;

extern "C" {

void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}

#define EQ_ACCESSES(bytes)                                                                                \
  void __tsan_read##bytes(void* p) { races.access(p, bytes, Access::Load, __builtin_return_address(0)); } \
  void __tsan_write##bytes(void* p) { races.access(p, bytes, Access::Store, __builtin_return_address(0)); }
EQ_ACCESSES(1)
EQ_ACCESSES(2)
EQ_ACCESSES(4)
EQ_ACCESSES(8)
EQ_ACCESSES(16)
#undef EQ_ACCESSES
#define EQ_ACCESSES(bytes)                                                                                          \
  void __tsan_unaligned_read##bytes(void* p) { races.access(p, bytes, Access::Load, __builtin_return_address(0)); } \
  void __tsan_unaligned_write##bytes(void* p) { races.access(p, bytes, Access::Store, __builtin_return_address(0)); }
EQ_ACCESSES(2)
EQ_ACCESSES(4)
EQ_ACCESSES(8)
EQ_ACCESSES(16)
#undef EQ_ACCESSES
void __tsan_read_range(void* p, unsigned long bytes) {
  races.access(p, bytes, Access::Load, __builtin_return_address(0));
}
void __tsan_write_range(void* p, unsigned long bytes) {
  races.access(p, bytes, Access::Store, __builtin_return_address(0));
}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}

// clang's, in the place of calls of the C library.
void* __tsan_memcpy(void* to, const void* from, unsigned long bytes) {
  races.access(from, bytes, Access::Load, __builtin_return_address(0));
  races.access(to, bytes, Access::Store, __builtin_return_address(0));
  return std::memcpy(to, from, bytes);
}
void* __tsan_memmove(void* to, const void* from, unsigned long bytes) {
  races.access(from, bytes, Access::Load, __builtin_return_address(0));
  races.access(to, bytes, Access::Store, __builtin_return_address(0));
  return std::memmove(to, from, bytes);
}
void* __tsan_memset(void* to, int value, unsigned long bytes) {
  races.access(to, bytes, Access::Store, __builtin_return_address(0));
  return std::memset(to, value, bytes);
}

// Atomics of host code in the same files, such as counts of shared pointers: always the strictest order.
#define EQ_ATOMICS(bits)                                                                                            \
  std::uint##bits##_t __tsan_atomic##bits##_load(const volatile std::uint##bits##_t* p, int) {                      \
    return __atomic_load_n(p, __ATOMIC_SEQ_CST);                                                                    \
  }                                                                                                                 \
  void __tsan_atomic##bits##_store(volatile std::uint##bits##_t* p, std::uint##bits##_t value, int) {               \
    __atomic_store_n(p, value, __ATOMIC_SEQ_CST);                                                                   \
  }                                                                                                                 \
  std::uint##bits##_t __tsan_atomic##bits##_fetch_add(volatile std::uint##bits##_t* p, std::uint##bits##_t value,   \
                                                      int) {                                                        \
    return __atomic_fetch_add(p, value, __ATOMIC_SEQ_CST);                                                          \
  }                                                                                                                 \
  std::uint##bits##_t __tsan_atomic##bits##_fetch_sub(volatile std::uint##bits##_t* p, std::uint##bits##_t value,   \
                                                      int) {                                                        \
    return __atomic_fetch_sub(p, value, __ATOMIC_SEQ_CST);                                                          \
  }                                                                                                                 \
  int __tsan_atomic##bits##_compare_exchange_weak(volatile std::uint##bits##_t* p, std::uint##bits##_t* expected,   \
                                                  std::uint##bits##_t value, int, int) {                            \
    return __atomic_compare_exchange_n(p, expected, value, true, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);               \
  }                                                                                                                 \
  int __tsan_atomic##bits##_compare_exchange_strong(volatile std::uint##bits##_t* p, std::uint##bits##_t* expected, \
                                                    std::uint##bits##_t value, int, int) {                          \
    return __atomic_compare_exchange_n(p, expected, value, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);              \
  }
EQ_ATOMICS(8)
EQ_ATOMICS(32)
EQ_ATOMICS(64)
#undef EQ_ATOMICS

}  // extern "C"
