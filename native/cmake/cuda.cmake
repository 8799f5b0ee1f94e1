# The CUDA device: every kernels/**/cuda*.cu for sm_80 and sm_90a, with the PTX of the former for what comes later.
# -std=c++20 by hand: CMake before 3.26 does not know it for CUDA.
set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
set(EQ_CUDA_TARGETS "sm_80 sm_90a compute_80")
find_package(CUDAToolkit REQUIRED)

file(GLOB EQ_CUDA_RUNTIME CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/../runtime/cuda/*.cc)
file(GLOB_RECURSE EQ_CUDA_KERNELS CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/../kernels/*/cuda*.cu)

add_library(eq_cuda_kernels OBJECT ${EQ_CUDA_KERNELS})
set_target_properties(eq_cuda_kernels PROPERTIES
  CUDA_STANDARD 20 CUDA_STANDARD_REQUIRED ON CUDA_ARCHITECTURES OFF POSITION_INDEPENDENT_CODE ON
  CUDA_COMPILER_LAUNCHER ${CMAKE_CURRENT_LIST_DIR}/../../tools/gpu/nvcc-log.sh)
target_include_directories(eq_cuda_kernels PRIVATE ${CMAKE_CURRENT_LIST_DIR}/..)
# tools/gpu/compile-one.sh compiles with the same flags. One architecture after the other: the build runs files, not
# architectures, beside each other.
target_compile_options(eq_cuda_kernels PRIVATE
  -O3 --expt-relaxed-constexpr -lineinfo
  "SHELL:-gencode arch=compute_80,code=[sm_80,compute_80]" "SHELL:-gencode arch=compute_90a,code=sm_90a"
  "SHELL:-Xcompiler -Wall,-Wextra,-Wno-unknown-pragmas,-fvisibility=hidden" -Xptxas=-v
  $<$<BOOL:${EQ_WERROR}>:-Werror=all-warnings>)

# What converts numbers on their way to and from the device runs on the host, once per instruction set.
set(EQ_HOST_TRANSFER "")
function(eq_host_transfer isa bytes base)
  add_library(eq_transfer_${isa} OBJECT ${CMAKE_CURRENT_LIST_DIR}/../kernels/elementwise/transfer/cpu.cc)
  target_link_libraries(eq_transfer_${isa} PRIVATE eq_options)
  target_compile_definitions(eq_transfer_${isa} PRIVATE EQ_ISA=${isa} EQ_ISA_BASE=${base} EQ_SIMD_BYTES=${bytes})
  target_compile_options(eq_transfer_${isa} PRIVATE ${EQ_KERNEL_FLAGS} ${ARGN})
  set(EQ_HOST_TRANSFER ${EQ_HOST_TRANSFER} $<TARGET_OBJECTS:eq_transfer_${isa}> PARENT_SCOPE)
endfunction()
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  eq_host_transfer(portable 16 1 -DEQ_MULTI_ISA=1)
  eq_host_transfer(avx2 32 0 -DEQ_MULTI_ISA=1 -mavx2 -mfma -mf16c -mbmi2)
  eq_host_transfer(avx512 64 0 -DEQ_MULTI_ISA=1 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma -mf16c -mbmi2)
else()
  eq_host_transfer(portable 16 1)
endif()
add_library(eq_host_isa OBJECT ${CMAKE_CURRENT_LIST_DIR}/../kernels/isa.cc)
target_link_libraries(eq_host_isa PRIVATE eq_options)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  target_compile_definitions(eq_host_isa PRIVATE EQ_MULTI_ISA=1)
endif()

add_library(equipoise_cuda SHARED
  $<TARGET_OBJECTS:eq_addon> ${EQ_CUDA_RUNTIME} ${CMAKE_CURRENT_LIST_DIR}/../addon/device_cuda.cc
  $<TARGET_OBJECTS:eq_cuda_kernels> ${EQ_HOST_TRANSFER} $<TARGET_OBJECTS:eq_host_isa>)
set_target_properties(equipoise_cuda PROPERTIES
  PREFIX "" SUFFIX ".node" LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin LINKER_LANGUAGE CXX)
# cudart statically: the addon must load where there is neither toolkit nor driver.
target_link_libraries(equipoise_cuda PRIVATE eq_options eq_node CUDA::cudart_static)
target_link_options(equipoise_cuda PRIVATE -static-libstdc++ -static-libgcc)
