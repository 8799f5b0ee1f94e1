/**
 * Kernel times on a GPU: `node ... benchmarks/src/gpu/main.ts --json FILE [--filter TEXT] [--python PATH]`.
 *
 * A case's launches are recorded as a CUDA graph and replayed, so that what is timed is the device and not JavaScript;
 * ceilings (copy, bf16 product) are measured by the same means in the same run. Peers are PyTorch's kernels on the
 * same GPU, timed with events (tools/peers/torch_gpu.py).
 */
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { currentDevice, type Precision, setPrecision, useEngine } from '@equipoise/backend';
import { formatError } from '@equipoise/core';
import type { NativeAddon } from '@equipoise/native';
import * as tf from '@tensorflow/tfjs-core';
import { kernelFamilies } from '../kernels/families.js';
import { makeInputs } from '../kernels/inputs.js';
import { median } from '../measure/statistics.js';
import { GPU_CASES, type GpuCase } from './cases.js';

const ROUNDS = 7;
const ROUND_SECONDS = 0.02;
const peersScript = fileURLToPath(new URL('../../../tools/peers/torch_gpu.py', import.meta.url));

interface GpuResult {
  readonly id: string;
  readonly seconds: number;
  /** Of the copy ceiling (bytes read and written) and of the bf16 matrix product. */
  readonly copyShare: number | null;
  readonly multiplyShare: number | null;
  /** Seconds of the peers, by name. */
  readonly peers: Readonly<Record<string, number>>;
  readonly error?: string;
}

/** Median seconds of one call of `compute`, which is recorded `inner` times over. */
function timeRecorded(native: NativeAddon, compute: () => void, inner: number): number {
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
  return median(times);
}

/** Bytes per second of a copy (read and written), and FLOP/s of a bf16 product, of sizes that fill the chip. */
function ceilings(native: NativeAddon): { copy: number; multiply: number } {
  const words = 1 << 28;
  const from = native.ops.fill('f32', [words], 1);
  const to = native.ops.fill('f32', [words], 2);
  const copySeconds = timeRecorded(native, () => native.copyInto(to, from), 2);
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
  const multiplySeconds = timeRecorded(native, product, 2);
  for (const handle of half) native.release(handle);
  tf.dispose([a, b]);
  return { copy: (8 * words) / copySeconds, multiply: (2 * size ** 3) / multiplySeconds };
}

function measure(native: NativeAddon, item: GpuCase, limits: { copy: number; multiply: number }): GpuResult {
  const family = kernelFamilies.find(({ name }) => name === item.family);
  if (family === undefined) throw new Error(`no family ${item.family}`);
  const { sizes, precision } = item;
  const inputs = makeInputs(family.inputs(sizes), precision);
  try {
    const compute = (): void => tf.tidy(() => void family.compute(inputs, sizes));
    const seconds = timeRecorded(native, compute, item.inner);
    const bytes = family.bytes(sizes, precision === 'bf16' ? 2 : 4);
    const flops = family.flops(sizes);
    return {
      id: idOf(item),
      seconds,
      copyShare: bytes / seconds / limits.copy,
      multiplyShare: flops > 0 ? flops / seconds / limits.multiply : null,
      peers: {},
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

function render(results: readonly GpuResult[]): string[] {
  const share = (x: number | null): string => (x === null ? '' : `${(100 * x).toFixed(0)} %`).padStart(7);
  return results.map(({ id, seconds, copyShare, multiplyShare, peers, error }) => {
    if (error !== undefined) return `${id.padEnd(56)} FAILED: ${error}`;
    const beside = Object.entries(peers).map(([name, s]) => `${(s / seconds).toFixed(2)}x ${name}`);
    return `${id.padEnd(56)} ${(seconds * 1e6).toFixed(1).padStart(10)} us ${share(copyShare)} of copy ${share(multiplyShare)} of product  ${beside.join(', ')}`;
  });
}

async function main(argv: readonly string[]): Promise<void> {
  const string = { type: 'string' } as const;
  const { values } = parseArgs({
    args: [...argv],
    options: { json: string, filter: string, python: string },
  });
  await useEngine('equipoise-cuda');
  const native = currentDevice()?.native;
  if (native === undefined) throw new Error('the equipoise-cuda engine did not start');
  const limits = ceilings(native);
  console.log(
    `copy ${(limits.copy / 1e12).toFixed(2)} TB/s, bf16 product ${(limits.multiply / 1e12).toFixed(0)} TFLOP/s`,
  );
  const cases = GPU_CASES.filter((item) => idOf(item).includes(values.filter ?? ''));
  const results = cases.map((item): GpuResult => {
    setPrecision(item.precision as Precision);
    try {
      return measure(native, item, limits);
    } catch (error) {
      return {
        id: idOf(item),
        seconds: Number.NaN,
        copyShare: null,
        multiplyShare: null,
        peers: {},
        error: formatError(error),
      };
    }
  });
  const { times, note } = askPeers(values.python ?? process.env.EQUIPOISE_PYTHON ?? 'python3', cases);
  const all = results.map((result) => ({ ...result, peers: times[result.id] ?? {} }));
  for (const line of render(all)) console.log(line);
  if (note) console.log(`peers: ${note}`);
  const record = {
    format: 1,
    command: ['benchmarks/src/gpu/main.ts', ...argv],
    device: native.describe(),
    memory: native.memory(),
    ceilings: { ...limits, peer: times.product ?? {} },
    peers: note,
    cases: all,
  };
  if (values.json !== undefined)
    writeFileSync(path.resolve(values.json), `${JSON.stringify(record, null, 1)}\n`);
  if (all.some(({ error }) => error !== undefined)) process.exitCode = 1;
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  console.error(formatError(error));
  process.exitCode = 1;
}
