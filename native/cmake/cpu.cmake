# The CPU device: every kernels/**/cpu*.cc is compiled once per instruction set (see kernels/isa.h).
file(GLOB EQ_CPU_RUNTIME CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/../runtime/cpu/*.cc)
file(GLOB_RECURSE EQ_CPU_KERNELS CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/../kernels/*/cpu*.cc)

add_library(eq_cpu_base OBJECT ${EQ_CPU_KERNELS} ${CMAKE_CURRENT_LIST_DIR}/../kernels/isa.cc)
target_link_libraries(eq_cpu_base PRIVATE eq_options)
# -fno-math-errno and -fno-trapping-math let loops with sqrt and comparisons vectorise; NaN and infinity
# keep their meaning.
set(EQ_KERNEL_FLAGS -O3 -fno-math-errno -fno-trapping-math)
# The sanitizer build checks the source, for this machine's own instruction set alone: five of them at -O3 would take
# an hour. Overflow of int32 values is reported and goes on, so that one run finds every place.
if(EQ_SANITIZE)
  set(EQ_KERNEL_FLAGS -O1 -march=native -mprefer-vector-width=512 -fno-math-errno -fno-trapping-math
    -fsanitize-recover=signed-integer-overflow)
  execute_process(COMMAND ${CMAKE_CXX_COMPILER} -march=native -dM -E -x c++ /dev/null OUTPUT_VARIABLE EQ_MACROS)
  if(EQ_MACROS MATCHES "__AVX512F__")
    set(EQ_NATIVE_BYTES 64)
  elseif(EQ_MACROS MATCHES "__AVX2__")
    set(EQ_NATIVE_BYTES 32)
  else()
    set(EQ_NATIVE_BYTES 16)
  endif()
else()
  set(EQ_NATIVE_BYTES 16)
endif()
target_compile_definitions(eq_cpu_base PRIVATE EQ_ISA=portable EQ_ISA_BASE=1 EQ_SIMD_BYTES=${EQ_NATIVE_BYTES})
target_compile_options(eq_cpu_base PRIVATE ${EQ_KERNEL_FLAGS})
set(EQ_CPU_OBJECTS $<TARGET_OBJECTS:eq_cpu_base>)

if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64" AND NOT EQ_SANITIZE)
  target_compile_definitions(eq_cpu_base PRIVATE EQ_MULTI_ISA=1)
  function(eq_isa name bytes)
    add_library(eq_cpu_${name} OBJECT ${EQ_CPU_KERNELS})
    target_compile_definitions(eq_cpu_${name} PRIVATE EQ_MULTI_ISA=1 EQ_ISA=${name} EQ_ISA_BASE=0 EQ_SIMD_BYTES=${bytes})
    target_compile_options(eq_cpu_${name} PRIVATE ${EQ_KERNEL_FLAGS} ${ARGN})
    target_link_libraries(eq_cpu_${name} PRIVATE eq_options)
  endfunction()
  eq_isa(avx2 32 -mavx2 -mfma -mf16c -mbmi2)
  eq_isa(avx512 64 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma -mf16c -mbmi2 -mprefer-vector-width=512)
  list(APPEND EQ_CPU_OBJECTS $<TARGET_OBJECTS:eq_cpu_avx2> $<TARGET_OBJECTS:eq_cpu_avx512>)

  # The matrix kernels also exist for processors that multiply bf16 (see kernels/gemm/core/dispatch.h).
  set(EQ_MATRIX_KERNELS ${EQ_CPU_KERNELS})
  list(FILTER EQ_MATRIX_KERNELS INCLUDE REGEX "/kernels/(gemm|conv|attention/forward)/")
  function(eq_matrix_isa name)
    add_library(eq_cpu_${name} OBJECT ${EQ_MATRIX_KERNELS})
    target_compile_definitions(eq_cpu_${name} PRIVATE
      EQ_MULTI_ISA=1 EQ_ISA=${name} EQ_ISA_BASE=0 EQ_MATRIX_ONLY=1 EQ_SIMD_BYTES=64)
    target_compile_options(eq_cpu_${name} PRIVATE ${EQ_KERNEL_FLAGS} -mavx512f -mavx512bw -mavx512dq -mavx512vl
      -mfma -mf16c -mbmi2 -mprefer-vector-width=512 -mavx512bf16 ${ARGN})
    target_link_libraries(eq_cpu_${name} PRIVATE eq_options)
  endfunction()
  eq_matrix_isa(avx512bf16)
  eq_matrix_isa(amx -mamx-tile -mamx-bf16)
  list(APPEND EQ_CPU_OBJECTS $<TARGET_OBJECTS:eq_cpu_avx512bf16> $<TARGET_OBJECTS:eq_cpu_amx>)
endif()

add_library(equipoise_cpu SHARED
  $<TARGET_OBJECTS:eq_addon> ${EQ_CPU_RUNTIME}
  ${CMAKE_CURRENT_LIST_DIR}/../addon/device_cpu.cc ${EQ_CPU_OBJECTS})
set_target_properties(equipoise_cpu PROPERTIES PREFIX "" SUFFIX ".node" LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
target_link_libraries(equipoise_cpu PRIVATE eq_options eq_node)
if(NOT EQ_SANITIZE)
  target_link_options(equipoise_cpu PRIVATE -static-libstdc++ -static-libgcc)
endif()
