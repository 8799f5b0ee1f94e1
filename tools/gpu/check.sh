#!/usr/bin/env bash
# Everything that needs a GPU, on a bare machine with nvcc, CMake and g++.
#
#   tools/gpu/check.sh [--only PART,...] [--skip PART,...] [--out FOLDER] [--pack FOLDER] [--device N] [--minutes N]
#
# Parts, in order: build doctor tests bench wgmma libraries sanitize conformance pipelines. A part that fails does not
# stop the others. What says most comes first: after --minutes (default 10) nothing runs any more, and what was left is
# told. Writes report.json, report.txt and logs.tar.gz to --out (default $OUT, else build-gpu-report), anew after each
# part; the exit status is 0 only if every part that was asked for passed.
#
# Without Node on PATH, without node_modules and without the CPU addon, they are unpacked from --pack (default
# build-gpu), which `node tools/gpu/pack.mjs` made on another machine.
set -uo pipefail
cd "$(dirname "$0")/../.."
root=$PWD

all="build doctor tests bench wgmma libraries sanitize conformance pipelines"
only=$all skip="" out=${OUT:-$root/build-gpu-report} pack=$root/build-gpu device="" minutes=10
usage() { sed -n '2,13p' "$0" | sed 's/^# \{0,1\}//' >&2; exit 2; }
while [ $# -gt 0 ]; do
  [ $# -ge 2 ] || usage
  case $1 in
    --only) only=${2//,/ } ;;
    --skip) skip=${2//,/ } ;;
    --out) out=$2 ;;
    --pack) pack=$2 ;;
    --device) device=$2 ;;
    --minutes) minutes=$2 ;;
    *) usage ;;
  esac
  shift 2
done
for part in $only $skip; do
  case " $all " in *" $part "*) ;; *) echo "check.sh: no part $part; there are: $all" >&2; exit 2 ;; esac
done
case $minutes in '' | *[!0-9]*) echo "check.sh: --minutes: expected a whole number, got $minutes" >&2; exit 2 ;; esac
mkdir -p "$out" || exit 2
out=$(cd "$out" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# What the environment chose stands unless another GPU is asked for.
[ -z "$device" ] || export CUDA_VISIBLE_DEVICES=$device
jobs=$(nproc)
export PATH=$PATH:/usr/local/cuda/bin
command_line="$(basename "$0") --only ${only// /,}${skip:+ --skip ${skip// /,}}"
# The report is written and packed within the last seconds.
deadline=$(($(date +%s) + minutes * 60 - 20))

wanted() {
  case " $skip " in *" $1 "*) return 1 ;; esac
  case " $only " in *" $1 "*) return 0 ;; *) return 1 ;; esac
}

# What there is so far, so that a run that is cut off leaves it behind.
report() {
  (
    flock 9
    node tools/gpu/report.mjs "$work" "$out" --argv "$command_line"
    status=$?
    tar -C "$work" -czf "$out/logs.tar.gz" --exclude=./node --exclude=./cache --exclude='./showcase-c*' . 2>/dev/null
    exit $status
  ) 9>"$work/lock"
}

# run PART SECONDS COMMAND...: the part's output goes to its log, its end into parts.tsv. Each part has a folder of its
# own for what is measured and compiled once a machine: choices that were measured beside other work would stay.
run() {
  local part=$1 limit=$2 start status left
  shift 2
  wanted "$part" || return 0
  start=$(date +%s)
  left=$((deadline - start))
  if [ $left -lt 10 ]; then
    echo "== $part: no time is left"
    printf '%s\tno time\t0\n' "$part" >>"$work/parts.tsv"
    return
  fi
  [ "$limit" -le $left ] || limit=$left
  echo "== $part (at most $limit s)"
  XDG_CACHE_HOME=$work/cache/$part timeout -k 5 "$limit" "$@" >"$work/$part.log" 2>&1
  status=$?
  printf '%s\t%s\t%s\n' "$part" "$status" "$(($(date +%s) - start))" >>"$work/parts.tsv"
  if [ $status -eq 0 ]; then
    echo "   $part passed in $(($(date +%s) - start)) s"
  else
    echo "   $part FAILED with $status in $(($(date +%s) - start)) s: $(tail -n 1 "$work/$part.log" | cut -c1-200)"
  fi
  report >/dev/null
}

# unpack ARCHIVE FOLDER; tar needs xz, Python does not.
unpack() { tar -xf "$1" -C "$2" 2>/dev/null || python3 -c 'import sys, tarfile; tarfile.open(sys.argv[1]).extractall(sys.argv[2])' "$1" "$2"; }

provide() {
  if ! command -v node >/dev/null; then
    [ -f "$pack/node.tar.xz" ] || { echo "check.sh: there is no node on PATH and no $pack/node.tar.xz (see tools/gpu/pack.mjs)" >&2; exit 2; }
    mkdir -p "$work/node" && unpack "$pack/node.tar.xz" "$work/node" && chmod +x "$work/node/node"
    export PATH=$work/node:$PATH
  fi
  if [ ! -d node_modules/tap ]; then
    [ -f "$pack/modules.tar.xz" ] || { echo "check.sh: node_modules is missing, and so is $pack/modules.tar.xz (see tools/gpu/pack.mjs)" >&2; exit 2; }
    unpack "$pack/modules.tar.xz" .
  fi
  node --version || exit 2
  # The CPU takes part as the one that is compared with; its addon takes longer to compile than CUDA's.
  local addons=$root/packages/native/build/bin
  if [ ! -f "$addons/equipoise_cpu.node" ] && [ -f "$pack/equipoise_cpu.tar.xz" ]; then
    mkdir -p "$addons" && unpack "$pack/equipoise_cpu.tar.xz" "$addons"
    # Made for another machine: where it does not load it is compiled with the rest.
    node -e 'require(process.argv[1])' "$addons/equipoise_cpu.node" || rm -f "$addons/equipoise_cpu.node"
  fi
  nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader >"$work/gpu.txt" 2>/dev/null
  nvcc --version 2>/dev/null | tail -n 2 | head -n 1 >"$work/nvcc.txt"
  # Libraries that came with Python packages, for where the loader knows none of its own.
  libraries=$(python3 -c '
import glob, os, sysconfig
found = glob.glob(os.path.join(sysconfig.get_path("purelib"), "nvidia", "*", "lib", "lib*.so*"))
wanted = ("libcublasLt.so", "libcudnn.so", "libnvrtc.so")
print(":".join(sorted({os.path.dirname(f) for f in found if os.path.basename(f).startswith(wanted)})))' 2>/dev/null)
}

with_libraries() { export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$libraries; }
# The kernels of this program alone, and of them those that every GPU has.
built_in() { export EQUIPOISE_CUBLASLT=0 EQUIPOISE_CUDNN=0 EQUIPOISE_CUDA_WGMMA=0; }
source_node() { node --import=tsx --conditions=equipoise-source "$@"; }

part_build() {
  local generator="Unix Makefiles" headers targets=equipoise_cuda
  command -v ninja >/dev/null && generator=Ninja
  headers=$(node -p 'require("node-api-headers").include_dir') || return 1
  # What cmake-js would pass; it is not needed for a build that downloads nothing.
  rm -f packages/native/build/CMakeCache.txt
  [ -f packages/native/build/bin/equipoise_cpu.node ] || targets="$targets equipoise_cpu"
  cmake -S packages/native -B packages/native/build -G "$generator" -DCMAKE_BUILD_TYPE=Release -DCMAKE_JS_INC="$headers" &&
    cmake --build packages/native/build -j "$jobs" --target $targets || return 1
  node tools/gpu/resources.mjs --json "$work/resources.json" || return 1
  # Told after all else: a new compiler's warning must not cost the tests.
  ! grep -E 'warning *[:#]' "$work/build.log"
}

part_doctor() {
  nvidia-smi
  nvcc --version | tail -n 2
  source_node apps/cli/src/main.ts doctor --json >"$work/doctor.json"
  source_node apps/cli/src/main.ts doctor
  node -e '
    const { engines } = JSON.parse(require("fs").readFileSync(process.argv[1], "utf8"));
    const cuda = engines.find((engine) => engine.name === "equipoise-cuda");
    if (!cuda?.usable) { console.log(cuda?.detail ?? "no CUDA engine"); process.exit(1); }' "$work/doctor.json"
}

part_tests() {
  built_in
  # Less than there are cores: every process has threads of its own.
  source_node tools/gpu/run-tests.mjs --engine equipoise-cuda --match '^(?!.*libraries)' --jobs 8 --timeout 140 \
    --json "$work/tests.json" --log "$work/tests"
}

# cuBLASLt and cuDNN: every call that is made of them, then large products by whichever is fastest.
part_libraries() {
  with_libraries
  export EQUIPOISE_CUDA_WGMMA=0
  source_node tools/gpu/run-tests.mjs --engine equipoise-cuda --match 'libraries|real-sizes' --jobs 2 --timeout 110 \
    --json "$work/libraries.json" --log "$work/libraries"
  local status=$?
  cat "$XDG_CACHE_HOME"/equipoise/cuda-choices.tsv && return $status
  echo "nothing was chosen: cuBLASLt and cuDNN are not installed"
  return 1
}

# The kernels' tests at small sizes; every tensor in an allocation of its own, or its neighbour hides an overrun.
part_sanitize() {
  local tool status=0 pid pids=()
  set -o pipefail
  built_in
  export EQUIPOISE_TEST_SMALL=1 EQUIPOISE_CUDA_EXACT=1
  for tool in memcheck racecheck initcheck; do
    source_node tools/gpu/run-tests.mjs --engine equipoise-cuda --match '^(?!.*libraries)' --jobs 3 --timeout 200 --json "$work/sanitize-$tool.json" \
      --log "$work/sanitize-$tool" -- compute-sanitizer --tool "$tool" --target-processes application-only \
      --error-exitcode 9 --print-limit 20 2>&1 | sed -u "s/^/$tool: /" &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do wait "$pid" || status=1; done
  return $status
}

part_conformance() {
  built_in
  NODE_OPTIONS="--import=tsx --conditions=equipoise-source" node tools/conformance/main.mjs --backend equipoise-cuda \
    --module packages/backend/src/index.ts --json "$work/conformance.json"
}

# Both pipelines on the embedded model, here and on the CPU, with the same seeds: the tables must agree.
part_pipelines() {
  built_in
  local sizes="--images 96 --epochs 10 --prompts 10 --candidates 4 --test-prompts 16 --updates 20 --steps 10"
  source_node apps/cli/src/main.ts showcase --engine equipoise-cpu --out "$work/showcase-cpu" $sizes >"$work/showcase-cpu.json" &
  local cpu=$! status=0
  source_node apps/cli/src/main.ts showcase --device cuda --out "$work/showcase-cuda" $sizes >"$work/showcase-cuda.json" || status=1
  wait $cpu || status=1
  [ $status -eq 0 ] && node tools/gpu/compare-tables.mjs "$work/showcase-cpu.json" "$work/showcase-cuda.json"
}

# The sm_90a matrix kernel, asked for so that its check is made anew: every epilogue by each of its tiles, then large
# products by it where it is fastest. In processes of its own, and with a cache of its own: a kernel that fails takes
# nothing with it.
part_wgmma() {
  built_in
  export EQUIPOISE_CUDA_WGMMA=1
  local status=0 tile pid pids=()
  for tile in 128x128 128x160 256x128 256x160; do
    EQUIPOISE_CUDA_TUNE="wgmma $tile" source_node tools/gpu/run-tests.mjs --engine equipoise-cuda --match half-products \
      --timeout 60 --json "$work/wgmma-$tile.json" --log "$work/wgmma-$tile" &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do wait "$pid" || status=1; done
  source_node tools/gpu/run-tests.mjs --engine equipoise-cuda --match real-sizes --timeout 60 --json "$work/wgmma.json" \
    --log "$work/wgmma" || status=1
  cat "$XDG_CACHE_HOME"/equipoise/cuda-choices.tsv
  grep -q 'wgmma on' "$XDG_CACHE_HOME"/equipoise/cuda-choices.tsv && return $status
  echo "the sm_90a kernel was not used: it failed its check, or this is no sm_90 device"
  return 1
}

part_bench() {
  with_libraries
  source_node benchmarks/src/gpu/main.ts --json "$work/bench.json"
}

provide
export -f source_node with_libraries built_in
for part in $all; do export -f "part_$part"; done
export work jobs root libraries
run build 300 bash -c part_build
run doctor 40 bash -c part_doctor
run tests 150 bash -c part_tests
run bench 150 bash -c part_bench
run wgmma 120 bash -c part_wgmma
run libraries 120 bash -c part_libraries
# What times nothing shares the GPU.
run sanitize 220 bash -c part_sanitize &
beside=$!
run conformance 150 bash -c part_conformance
run pipelines 150 bash -c part_pipelines
wait $beside

report
status=$?
cat "$out/report.txt"
exit $status
