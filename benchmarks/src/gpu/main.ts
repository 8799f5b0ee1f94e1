/**
 * Kernel times on a GPU: `npm run gpu -w benchmarks -- --json FILE [--filter TEXT] [--python PYTHON]`.
 *
 * A case's launches are recorded as a CUDA graph and replayed, so that what is timed is the device and not JavaScript;
 * ceilings (copy, bf16 product) are measured by the same means in the same run. Peers are PyTorch's kernels on the
 * same GPU, timed with events (tools/peers/torch_gpu.py).
 */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { currentDevice, setPrecision, useEngine } from '@equipoise/backend';
import {
  defineOptions,
  formatError,
  invalid,
  type JobContext,
  type OptionsOf,
  option,
  throwIfCancelled,
  z,
} from '@equipoise/core';
import type { NativeAddon } from '@equipoise/native';
import * as tf from '@tensorflow/tfjs-core';
import { kernelFamilies } from '../kernels/families.js';
import { makeInputs } from '../kernels/inputs.js';
import { usePeers } from '../measure/peer.js';
import { median } from '../measure/statistics.js';
import { benchmarkProgram, type Findings, jsonOption, pythonOption } from '../program.js';
import type { CaseRecord } from '../record.js';
import { GPU_CASES, type GpuCase } from './cases.js';

const ROUNDS = 7;
const ROUND_SECONDS = 0.02;
const peersScript = fileURLToPath(new URL('../../../tools/peers/torch_gpu.py', import.meta.url));

const options = defineOptions('gpu', {
  json: jsonOption,
  filter: option(z.string().default(''), 'Only cases whose name contains this text.'),
  python: pythonOption,
});

/** Bytes per second of a copy and FLOP/s of a bf16 product: what both kinds of kernels are held against. */
interface GpuCeilings {
  readonly copy: number;
  readonly multiply: number;
}

/** Seconds of one call of `compute`, which is recorded `inner` times over, in each round. */
function timeRecorded(native: NativeAddon, compute: () => void, inner: number): number[] {
  compute();
  native.synchronize();
  native.beginRecording();
  let recording: ReturnType<NativeAddon['endRecording']>;
  try {
    for (let i = 0; i < inner; i++) compute();
    recording = native.endRecording();
  } catch (error) {
    native.abandonRecording();
    throw error;
  }
  const replays = (n: number): number => {
    const start = performance.now();
    for (let i = 0; i < n; i++) native.replay(recording);
    native.synchronize();
    return (performance.now() - start) / 1e3;
  };
  replays(2);
  const n = Math.max(1, Math.ceil((ROUND_SECONDS * 4) / replays(4)));
  const times = Array.from({ length: ROUNDS }, () => replays(n) / (n * inner));
  native.releaseRecording(recording);
  return times;
}

/** Bytes per second of a copy (read and written), and FLOP/s of a bf16 product, of sizes that fill the chip. */
function measureCeilings(native: NativeAddon): GpuCeilings {
  const words = 1 << 28;
  const from = native.ops.fill('f32', [words], 1);
  const to = native.ops.fill('f32', [words], 2);
  const copySeconds = median(timeRecorded(native, () => native.copyInto(to, from), 2));
  for (const handle of [from, to]) native.release(handle);
  const size = 8192;
  const [a, b] = tf.tidy(() =>
    [1, 2].map((seed) => {
      const row = tf.randomNormal([size, 64], 0, 1, 'float32', seed);
      return tf.keep(tf.cast(tf.tile(row, [1, size / 64]), 'float32'));
    }),
  ) as [tf.Tensor2D, tf.Tensor2D];
  const device = currentDevice();
  const half = [a, b].map((x) =>
    native.ops.cast((device as NonNullable<typeof device>).handle(x, 'bench'), 'bf16'),
  );
  const product = (): void =>
    native.release(native.ops.matMul(half[0] as never, half[1] as never, false, true, false));
  const multiplySeconds = median(timeRecorded(native, product, 2));
  for (const handle of half) native.release(handle);
  tf.dispose([a, b]);
  return { copy: (8 * words) / copySeconds, multiply: (2 * size ** 3) / multiplySeconds };
}

function measure(native: NativeAddon, item: GpuCase, ceilings: GpuCeilings): CaseRecord {
  const family = kernelFamilies.find(({ name }) => name === item.family);
  if (family === undefined) throw new Error(`no family ${item.family}`);
  const { sizes, precision } = item;
  const inputs = makeInputs(family.inputs(sizes), precision);
  try {
    const compute = (): void => tf.tidy(() => void family.compute(inputs, sizes));
    const seconds = timeRecorded(native, compute, item.inner);
    const bytes = family.bytes(sizes, precision === 'bf16' ? 2 : 4);
    const flops = family.flops(sizes);
    const floor = Math.max(flops / ceilings.multiply, bytes / ceilings.copy);
    return {
      id: idOf(item),
      family: family.name,
      precision,
      kernels: [...family.kernels],
      flops,
      bytes,
      seconds,
      floors: seconds.map(() => floor),
      peers: {},
      peerProblems: {},
      ofCeiling: floor / median(seconds),
      discarded: 0,
    };
  } finally {
    tf.dispose(inputs);
  }
}

function idOf({ family, sizes, precision }: GpuCase): string {
  const known = kernelFamilies.find(({ name }) => name === family);
  return `${family} ${known?.label(sizes) ?? JSON.stringify(sizes)} ${precision}`;
}

/** Seconds of every peer, asked for in one process; none where there is no PyTorch with a GPU. */
function askPeers(
  python: string,
  cases: readonly GpuCase[],
): { times: Record<string, Record<string, number>>; note: string } {
  const asked = cases.map((item) => ({
    id: idOf(item),
    family: item.family,
    precision: item.precision,
    ...item.sizes,
  }));
  const { status, stdout, stderr, error } = spawnSync(python, [peersScript], {
    input: JSON.stringify([{ id: 'product', family: 'product', precision: 'bf16' }, ...asked]),
    encoding: 'utf8',
    timeout: 150_000,
    maxBuffer: 1 << 24,
  });
  if (status !== 0)
    return { times: {}, note: error?.message ?? stderr.trim().split('\n').at(-1) ?? 'failed' };
  return JSON.parse(stdout) as { times: Record<string, Record<string, number>>; note: string };
}

/** The case beside its peers' medians; theirs are of rounds of their own, so the ratio is that of the medians. */
function withPeers(item: CaseRecord, times: Readonly<Record<string, number>> = {}): CaseRecord {
  const own = median(item.seconds);
  const peers = Object.entries(times).map(([name, seconds]) => [name, { seconds, ratio: seconds / own }]);
  return { ...item, peers: Object.fromEntries(peers) };
}

async function run(
  { filter, python }: OptionsOf<typeof options>,
  { signal, onProgress }: JobContext,
): Promise<Findings> {
  const chosen = GPU_CASES.filter((item) => idOf(item).includes(filter));
  if (chosen.length === 0) throw invalid('--filter', 'text that some case contains', filter);
  const peers = usePeers(python);
  await useEngine('equipoise-cuda');
  const native = currentDevice()?.native;
  if (native === undefined) throw new Error('the equipoise-cuda engine did not start');
  const ceilings = measureCeilings(native);
  const cases: CaseRecord[] = [];
  const failures: Record<string, string> = {};
  for (const [done, item] of chosen.entries()) {
    throwIfCancelled(signal, 'gpu');
    onProgress?.({ task: idOf(item), done, total: chosen.length, unit: 'case' });
    setPrecision(item.precision);
    try {
      cases.push(measure(native, item, ceilings));
    } catch (error) {
      failures[idOf(item)] = formatError(error);
    }
  }
  // The checks of a bare machine (tools/gpu/check.sh) take whatever Python it has.
  const asked = askPeers(peers.python ?? 'python3', chosen);
  const product = Object.entries(asked.times.product ?? {});
  return {
    suite: 'gpu',
    cases: cases.map((item) => withPeers(item, asked.times[item.id])),
    failures,
    summary: {
      'copy: TB/s': ceilings.copy / 1e12,
      'bf16 product: TFLOP/s': ceilings.multiply / 1e12,
      ...Object.fromEntries(product.map(([name, seconds]) => [`bf16 product of ${name}: seconds`, seconds])),
    },
    peerVersions: peers.versions,
    peerProblem: asked.note,
  };
}

await benchmarkProgram(options, run);
