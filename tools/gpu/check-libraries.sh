#!/bin/sh
# Compares what the CUDA device declares of cuBLASLt and cuDNN with the libraries themselves, without a GPU: prototypes,
# numbers and structures against their headers; descriptors of products made by the real cuBLASLt; plans of convolutions
# made by the real cuDNN for an A100 and an H100 that need not be there. Not needed for building or testing.
#
#   tools/gpu/check-libraries.sh FOLDER...
#
# FOLDERs hold headers and libraries: of a toolkit, or unpacked wheels (nvidia-cublas, nvidia-cublas-cu12,
# nvidia-cudnn-cu13, nvidia-cuda-nvrtc: cuDNN needs the other two of its CUDA version). Needs nvcc for the headers of the runtime.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
[ $# -ge 1 ] || { echo "usage: $0 FOLDER..." >&2; exit 2; }
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

# Where there is no driver, a library by its name whose functions do nothing lets cuDNN load its compiler.
if ! ldconfig -p | grep -q 'libcuda\.so\.1 '; then
  {
    echo 'int cuDriverGetVersion(int* v) { *v = 13000; return 0; }'
    echo 'int cuDeviceGetCount(int* v) { *v = 0; return 0; }'
    echo 'int cuGetErrorString(int e, const char** s) { *s = "no driver"; return e == 0; }'
    echo 'int cuGetErrorName(int e, const char** s) { *s = "no driver"; return e == 0; }'
    for name in ModuleGetFunction ModuleLoadData CtxGetCurrent CtxPopCurrent CtxPopCurrent_v2 LibraryLoadData \
      LibraryLoadFromFile LibraryGetKernel KernelGetFunction; do
      echo "int cu$name(void** a) { *a = (void*)1; return 0; }"
    done
    for name in ModuleUnload TensorMapEncodeIm2col TensorMapEncodeTiled CtxGetLimit CtxPushCurrent CtxPushCurrent_v2 \
      StreamGetCtx LinkCreate LinkCreate_v2 LinkAddData LinkAddData_v2 LinkComplete LinkDestroy LaunchKernel \
      LaunchCooperativeKernel LaunchKernelEx DeviceGet LibraryUnload KernelSetAttribute KernelGetAttribute \
      OccupancyMaxPotentialClusterSize; do
      echo "int cu$name(void) { return 0; }"
    done
  } >"$out/driver.c"
  cc -shared -fPIC -o "$out/libcuda.so.1" "$out/driver.c"
fi

libraries=$out
for folder; do
  for file in $(find "$folder" -name 'lib*.so.[0-9]*' | sed 's|/[^/]*$||' | sort -u); do libraries=$libraries:$file; done
done
export LD_LIBRARY_PATH="$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"

# compare NAME HEADER LIBRARY FOLDER...: every copy of the header in the folders, with the library beside it.
found=0 failed=0
compare() {
  name=$1 wanted=$2 pattern=$3
  shift 3
  for header in $(find "$@" -name "$wanted"); do
    include=$(dirname "$header")
    library=$(find "$(dirname "$include")" -name "$pattern" | head -1)
    [ -n "$library" ] || { echo "$header: no $pattern beside it" >&2; failed=1; continue; }
    found=$((found + 1))
    if ! nvcc -std=c++20 --expt-relaxed-constexpr -arch=sm_80 -I"$root/native" -I"$root/tools/gpu/libraries" \
      -I"$include" -o "$out/$name" "$root/tools/gpu/libraries/$name.cu" -ldl || ! "$out/$name" "$library"; then
      failed=1
    fi
  done
}
compare cublaslt cublasLt.h 'libcublasLt.so.*' "$@"
compare cudnn cudnn.h 'libcudnn.so.*' "$@"
[ $found -gt 0 ] || { echo "neither cublasLt.h nor cudnn.h in $*" >&2; exit 1; }
exit $failed
