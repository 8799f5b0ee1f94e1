#!/bin/sh
# Compiles one cuda.cu as the build does (both architectures, warnings are errors) and prints what ptxas says of each
# kernel: registers, spills, shared memory.   tools/gpu/compile-one.sh native/kernels/<family>/<op>/cuda.cu [nvcc options]
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
[ $# -ge 1 ] || { echo "usage: $0 FILE.cu [nvcc options]" >&2; exit 2; }
source=$1
shift
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
status=0
nvcc -std=c++20 -O3 --expt-relaxed-constexpr -I"$root/native" \
  -gencode arch=compute_80,code=[sm_80,compute_80] -gencode arch=compute_90a,code=sm_90a \
  -Xcompiler -fPIC,-Wall,-Wextra,-Wno-unknown-pragmas -Werror=all-warnings -Xptxas -v \
  -c "$source" -o "$out/one.o" "$@" >"$out/log" 2>&1 || status=$?
if [ $status -ne 0 ]; then
  cat "$out/log" >&2
  exit $status
fi
c++filt <"$out/log" | awk '
  /Compiling entry function/ { match($0, /\047.*\047 for \047sm_[0-9a-z]+\047/); text = substr($0, RSTART, RLENGTH)
    split(text, part, "\047"); kernel = part[2]; arch = part[4] }
  /spill stores/ { spills = $5 + $9 }
  /Used [0-9]+ registers/ { registers = $5; shared = 0
    if (match($0, /[0-9]+ bytes smem/)) shared = substr($0, RSTART, RLENGTH) + 0
    printf "%-7s %3d registers %5d bytes spilled %6d bytes shared  %s\n", arch, registers, spills, shared, kernel }'
