#!/usr/bin/env bash
# Everything that needs a GPU, on a bare machine with nvcc, CMake and g++.
#
#   tools/gpu/check.sh [--only PART,...] [--skip PART,...] [--out FOLDER] [--pack FOLDER] [--device N]
#
# Parts, in order: build doctor tests sanitize conformance pipelines wgmma bench. A part that fails does not stop the others.
# Writes report.json, report.txt and logs.tar.gz to --out (default $OUT, else build-gpu-report); the exit status is 0
# only if every part that was asked for passed. Sized to end within 10 minutes on 16 cores: each part has a limit, and
# the sanitizer runs beside the parts that time nothing.
#
# Without Node on PATH, and without node_modules, both are unpacked from --pack (default build-gpu), which
# `node tools/gpu/pack.mjs` made on another machine.
set -uo pipefail
cd "$(dirname "$0")/../.."
root=$PWD

all="build doctor tests sanitize conformance pipelines wgmma bench"
only=$all skip="" out=${OUT:-$root/build-gpu-report} pack=$root/build-gpu device=0
usage() { sed -n '2,14p' "$0" | sed 's/^# \{0,1\}//' >&2; exit 2; }
while [ $# -gt 0 ]; do
  [ $# -ge 2 ] || usage
  case $1 in
    --only) only=${2//,/ } ;;
    --skip) skip=${2//,/ } ;;
    --out) out=$2 ;;
    --pack) pack=$2 ;;
    --device) device=$2 ;;
    *) usage ;;
  esac
  shift 2
done
for part in $only $skip; do
  case " $all " in *" $part "*) ;; *) echo "check.sh: no part $part; there are: $all" >&2; exit 2 ;; esac
done
mkdir -p "$out" || exit 2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export CUDA_VISIBLE_DEVICES=$device
jobs=$(nproc)
export PATH=$PATH:/usr/local/cuda/bin

wanted() {
  case " $skip " in *" $1 "*) return 1 ;; esac
  case " $only " in *" $1 "*) return 0 ;; *) return 1 ;; esac
}

# run PART SECONDS COMMAND...: the part's output goes to its log, its end into parts.tsv.
run() {
  local part=$1 limit=$2 start status
  shift 2
  wanted "$part" || return 0
  start=$(date +%s)
  echo "== $part (at most $limit s)"
  timeout -k 10 "$limit" "$@" >"$work/$part.log" 2>&1
  status=$?
  printf '%s\t%s\t%s\n' "$part" "$status" "$(($(date +%s) - start))" >>"$work/parts.tsv"
  [ $status -eq 0 ] && echo "   $part passed in $(($(date +%s) - start)) s" || echo "   $part FAILED with $status in $(($(date +%s) - start)) s: $(tail -n 1 "$work/$part.log" | cut -c1-200)"
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
  node --version >"$work/node.version" || exit 2
}

source_node() { node --import=tsx --conditions=equipoise-source "$@"; }

part_build() {
  local generator="Unix Makefiles" headers
  command -v ninja >/dev/null && generator=Ninja
  headers=$(node -p 'require("node-api-headers").include_dir') || return 1
  # What cmake-js would pass; it is not needed for a build that downloads nothing.
  rm -f packages/native/build/CMakeCache.txt
  cmake -S packages/native -B packages/native/build -G "$generator" -DCMAKE_BUILD_TYPE=Release -DCMAKE_JS_INC="$headers" &&
    cmake --build packages/native/build -j "$jobs" &&
    node tools/gpu/resources.mjs --json "$work/resources.json"
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
  source_node tools/gpu/run-tests.mjs --engine equipoise-cuda --jobs 6 --timeout 110 --json "$work/tests.json" --log "$work/tests"
}

# The kernels' tests at small sizes; every tensor in an allocation of its own, or its neighbour hides an overrun.
part_sanitize() {
  local tool status=0 pids=()
  export EQUIPOISE_TEST_SMALL=1 EQUIPOISE_CUDA_EXACT=1
  for tool in memcheck racecheck initcheck; do
    source_node tools/gpu/run-tests.mjs --engine equipoise-cuda --jobs 3 --timeout 200 --json "$work/sanitize-$tool.json" \
      --log "$work/sanitize-$tool" -- compute-sanitizer --tool "$tool" --target-processes application-only \
      --error-exitcode 9 --print-limit 20 >"$work/sanitize-$tool.log" 2>&1 &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do wait "$pid" || status=1; done
  tail -n +1 "$work"/sanitize-*.log
  return $status
}

part_conformance() {
  NODE_OPTIONS="--import=tsx --conditions=equipoise-source" node tools/conformance/main.mjs --backend equipoise-cuda \
    --module packages/backend/src/index.ts --json "$work/conformance.json"
}

# Both pipelines on the embedded model, here and on the CPU, with the same seeds: the tables must agree.
part_pipelines() {
  local sizes="--images 96 --epochs 10 --prompts 10 --candidates 4 --test-prompts 16 --tune-steps 20 --steps 10"
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
  export EQUIPOISE_CUDA_WGMMA=1 XDG_CACHE_HOME=$work/wgmma-cache
  local status=0 tile
  for tile in 128x128 128x160 256x128 256x160; do
    EQUIPOISE_CUDA_TUNE="wgmma $tile" source_node tools/gpu/run-tests.mjs --engine equipoise-cuda --match half-products \
      --timeout 30 --json "$work/wgmma-$tile.json" --log "$work/wgmma-$tile" || status=1
  done
  source_node tools/gpu/run-tests.mjs --engine equipoise-cuda --match real-sizes --timeout 60 --json "$work/wgmma.json" \
    --log "$work/wgmma" || status=1
  cat "$XDG_CACHE_HOME"/equipoise/cuda-choices.tsv
  grep -q 'wgmma on' "$XDG_CACHE_HOME"/equipoise/cuda-choices.tsv && return $status
  echo "the sm_90a kernel was not used: it failed its check, or this is no sm_90 device"
  return 1
}

part_bench() {
  source_node benchmarks/src/gpu/main.ts --json "$work/bench.json"
}

provide
export -f source_node part_build part_doctor part_tests part_sanitize part_conformance part_pipelines part_wgmma part_bench
export work jobs root
run build 240 bash -c part_build
run doctor 60 bash -c part_doctor
run tests 150 bash -c part_tests
run sanitize 220 bash -c part_sanitize &
beside=$!
run conformance 150 bash -c part_conformance
run pipelines 150 bash -c part_pipelines
wait $beside
run wgmma 70 bash -c part_wgmma
run bench 200 bash -c part_bench

node tools/gpu/report.mjs "$work" "$out" --argv "$(basename "$0") --only ${only// /,}${skip:+ --skip ${skip// /,}}"
status=$?
tar -C "$work" -czf "$out/logs.tar.gz" --exclude=node --exclude='./showcase-c*' . 2>/dev/null
cat "$out/report.txt"
exit $status
