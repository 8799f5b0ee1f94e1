/**
 * The runtime of the CUDA device (native/runtime/cuda) without a GPU: on a strict model of the CUDA runtime
 * (native/simt/cudart), which must refuse every mistake that a probe makes, it keeps its promises.
 */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { addonCandidates } from './index.js';

const probe = addonCandidates('simt')
  .map((file) => path.join(path.dirname(file), 'cuda_runtime_probe'))
  .find((file) => fs.existsSync(file));

/** What a probe prints, on either stream. */
function run(name: string): string {
  if (probe === undefined) throw new Error('cuda_runtime_probe was not built: run "npm run build:native"');
  const { stdout, stderr } = spawnSync(probe, [name], { encoding: 'utf8' });
  return `${stderr}${stdout}`.trim();
}

/** The message of the model that ends the process. */
const REFUSED: Record<string, string> = {
  device_not_set: 'cudaEventSynchronize: this thread has not set its device',
  another_devices_stream: "cudaMemcpyAsync: the stream is another device's than the thread's",
  default_stream: 'cudaMemsetAsync: the legacy default stream',
  blocking_stream: 'cudaStreamCreateWithFlags: the stream would wait for the legacy default stream',
  destroyed_event: 'cudaEventQuery: the handle was never made, or has been destroyed',
  pageable_source: 'cudaMemcpyAsync: pageable memory: the copy would not be asynchronous',
  pageable_target: 'cudaMemcpyAsync: pageable memory: the copy would not be asynchronous',
  source_changes: 'cudaMemcpyAsync: the page-locked memory changed before the copy had run',
  source_freed: 'cudaFreeHost: a copy that is under way uses this memory',
  graph_source_freed: 'cudaFreeHost: a graph copies from this memory',
  target_freed: 'cudaFreeHost: a copy that is under way uses this memory',
  copy_too_long: 'cudaMemcpyAsync: 4096 bytes at 8 bytes into a block of 4096 bytes of device memory',
  copy_onto_itself: 'cudaMemcpyAsync: the copy overlaps itself',
  memory_freed_too_early: 'cudaMemcpyAsync: the device memory was freed before the copy had run',
  memory_freed_twice: 'cudaFree: no device memory begins here',
  host_reads_device: 'host code: touches 0 bytes into a block of 4096 bytes of device memory',
  nothing_allocated: 'cudaMalloc: gives no address for 0 bytes',
  query_while_recording: 'cudaStreamQuery: the stream is recording',
  wait_while_recording: 'cudaStreamSynchronize: the stream is recording',
  recorded_event: 'cudaEventQuery: the event was recorded in a capture',
  allocation_while_recording: 'cudaMalloc: a capture forbids calls that may wait or allocate',
  other_thread_while_recording: 'cudaEventSynchronize: a capture forbids calls that may wait or allocate',
  graph_destroyed_while_running: 'cudaGraphExecDestroy: the graph is running',
  graph_destroyed: 'cudaGraphLaunch: the handle was never made, or has been destroyed',
  empty_grid: 'cudaLaunchKernel: Probe: a grid of 0 x 1 x 1',
  grid_too_tall: 'cudaLaunchKernel: Probe: a grid of 1 x 65536 x 1',
  block_too_large: 'cudaLaunchKernel: Probe: a block of 1056 threads',
  shared_not_permitted: 'cudaLaunchKernel: Probe: 49156 bytes of dynamic shared memory were not permitted',
  cluster_without_code: 'cudaLaunchKernel: Probe: a cluster of 2 blocks',
  error_untaken: 'cudaMemcpyAsync: queues work while an error is untaken: cudaErrorNotReady',
  event_without_time: 'cudaEventElapsedTime: the event was made without timing',
};

t.test('the model refuses every mistake', (t) => {
  for (const [name, message] of Object.entries(REFUSED)) t.equal(run(name), `cudart model: ${message}`, name);
  t.end();
});

t.test('the runtime keeps its promises and gives everything back', (t) => {
  for (const name of [
    'uploads',
    'reuse',
    'frees',
    'out_of_memory',
    'graphs',
    'graph_ends',
    'faults',
    'shared_memory',
    'profile',
    'refusals',
    'two_devices',
    'reads_at_the_end',
  ])
    t.equal(run(name), 'nothing found, nothing left', name);
  t.equal(
    run('broken_device'),
    'cudart model: the device stops: Probe: block (0,0,0), thread (0,0,0) accessed no device memory\n' +
      'nothing found, nothing left',
  );
  t.end();
});

const ADDON = `
const a = require(process.argv[1]);
const fill = (value) => a.ops.fill('f32', [5000], value);`;

/** Ends of a process that has reads under way and handles that are alive. */
const ENDS: Readonly<Record<string, string>> = {
  'by itself': '',
  exit: 'process.exit(0);',
  shutdown: 'a.shutdown();',
  'while recording': 'a.beginRecording(); globalThis.kept = fill(1); process.exit(0);',
  'with a graph that runs': `
    a.beginRecording(); globalThis.kept = fill(1); globalThis.graph = a.endRecording();
    a.replay(graph); a.replay(graph); process.exit(0);`,
  'with a profile': 'a.setProfiling(true); fill(1); process.exit(0);',
};

t.test('processes and worker threads end in any state', (t) => {
  const addon = path.join(path.dirname(probe ?? ''), 'modelled', 'equipoise_cuda.node');
  const end = (name: string, script: string): void => {
    const { status, stderr } = spawnSync(process.execPath, ['-e', ADDON + script, addon], {
      encoding: 'utf8',
    });
    t.same({ status, stderr }, { status: 0, stderr: '' }, name);
  };
  const reads = 'a.selectDevice(1); globalThis.reads = [1, 2, 3, 4].map((value) => a.read(fill(value)));';
  for (const [name, script] of Object.entries(ENDS)) end(name, reads + script);
  end(
    'workers, one of them stopped',
    `const { Worker } = require('node:worker_threads');
    const own = (i, rest) => new Worker(
      "const { workerData } = require('node:worker_threads'); const a = require(workerData); a.selectDevice(" + i + ");" +
      "const reads = Array.from({ length: 20 }).map(() => a.read(a.ops.fill('f32', [5000], 1)));" + rest,
      { eval: true, workerData: process.argv[1] });
    own(0, "").on('exit', (code) => { process.exitCode ||= code; });
    const stopped = own(1, "require('node:worker_threads').parentPort.postMessage(1); setInterval(() => {}, 1000);");
    stopped.on('message', () => stopped.terminate());`,
  );
  t.end();
});

const skip = spawnSync('nvcc', ['--version']).status !== 0 && 'nvcc is not installed';
t.test('the model has the interface of the toolkit', { skip }, (t) => {
  const native = fileURLToPath(new URL('../../../native', import.meta.url));
  const folder = path.join(native, 'simt', 'cudart');
  const out = fs.mkdtempSync(path.join(os.tmpdir(), 'cudart-'));
  // Definitions that differ from the toolkit's declarations do not compile.
  const all = path.join(out, 'all.cc');
  const sources = ['device', 'memory', 'stream', 'event', 'graph'].map((name) =>
    path.join(folder, `${name}.cc`),
  );
  fs.writeFileSync(all, sources.map((file) => `#include "${file}"\n`).join(''));
  const args = ['-std=c++20', '-x', 'c++', '-I', native, '-c', all, '-o', path.join(out, 'all.o')];
  const { status, stderr } = spawnSync('nvcc', args, { encoding: 'utf8' });
  t.same({ status, stderr }, { status: 0, stderr: '' });
  fs.rmSync(out, { recursive: true });
  t.end();
});
