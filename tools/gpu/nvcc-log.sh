#!/bin/sh
# Compiler launcher of the CUDA kernels: runs the compiler, keeps what ptxas says of each kernel beside the object
# (OBJECT.ptxas, which tools/gpu/resources.mjs reads), and shows the rest.
previous= object=
for argument in "$@"; do
  [ "$previous" = -o ] && object=$argument
  previous=$argument
done
[ -n "$object" ] || exec "$@"
"$@" >"$object.log" 2>&1
status=$?
sed -n '/^ptxas info/p; /bytes stack frame/p' "$object.log" >"$object.ptxas"
sed '/^ptxas info/d; /bytes stack frame/d' "$object.log" >&2
rm -f "$object.log"
exit $status
