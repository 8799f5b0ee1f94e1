/**
 * Matrix products and convolutions beside PyTorch CPU and beside the processor's own ceilings.
 *
 *   npx tsx --conditions=equipoise-source benchmarks/src/kernels/matrix.ts --python PATH [--filter TEXT]
 *     [--precision f32|bf16] [--rounds N] [--frozen false]
 *
 * Both sides take turns in short bursts, so that other load meets them alike, and the fastest call of each counts.
 * PyTorch runs with one thread and with as many as we use; its better figure is the peer. Set EQUIPOISE_THREADS to
 * compare on fewer threads. Prints GFLOP/s, their ratio, the share of the ceiling, and geometric means by group.
 */
import { parseArgs } from 'node:util';
import { type ConvWindow, FusedActivation, type Handle, loadAddon } from '@equipoise/native';
import { CASES, type ConvCase, flops, type KernelCase, label, type Precision } from './matrix-cases.js';
import { TorchPeer } from './torch-peer.js';

const { values: options } = parseArgs({
  options: {
    python: { type: 'string' },
    filter: { type: 'string', default: '' },
    precision: { type: 'string' },
    rounds: { type: 'string', default: '12' },
    frozen: { type: 'string', default: 'true' },
  },
});

const native = loadAddon('cpu');
const frozen = options.frozen !== 'false';

function tensor(shape: number[], storage: Precision, weight = false): Handle {
  const values = new Float32Array(shape.reduce((a, b) => a * b, 1));
  for (let i = 0; i < values.length; i++) values[i] = ((Math.imul(i, 2654435761) >>> 8) & 0xff) / 128 - 1;
  return native.upload(values, 'f32', shape, storage, weight && frozen);
}

/** One call of the kernel; its tensors live as long as the closure. */
function prepare(c: KernelCase, storage: Precision): () => Handle {
  const { ops } = native;
  if (c.kind === 'linear') {
    const [x, w, b] = [tensor([c.m, c.k], storage), tensor([c.n, c.k], storage, true), tensor([c.n], 'f32')];
    return () => ops.linear(x, w, b, FusedActivation.None, null, null, 1, null, false);
  }
  if (c.kind === 'linearGradWeight') {
    const [dy, x] = [tensor([c.k, c.m], storage), tensor([c.k, c.n], storage)];
    return () => ops.matMul(dy, x, true, false, true);
  }
  if (c.kind === 'matmul') {
    const [a, b] = [tensor([c.batch, c.m, c.k], storage), tensor([c.batch, c.k, c.n], storage)];
    return () => ops.matMul(a, b, false, false, false);
  }
  return prepareConv(c as ConvCase, storage);
}

function prepareConv(c: ConvCase, storage: Precision): () => Handle {
  const { ops } = native;
  const out: [number, number] = [Math.ceil(c.height / c.stride), Math.ceil(c.width / c.stride)];
  const pad = Math.floor(c.taps / 2);
  const window: ConvWindow = [c.stride, c.stride, 1, 1, pad, pad, ...out];
  const image = [c.batch, c.height, c.width, c.channels];
  const filterShape = [c.taps, c.taps, c.channels, c.outputs];
  const [x, dy] = [tensor(image, storage), tensor([c.batch, ...out, c.outputs], storage)];
  const [filter, bias] = [tensor(filterShape, storage, true), tensor([c.outputs], 'f32')];
  if (c.kind === 'conv') return () => ops.conv2d(x, filter, window, bias, FusedActivation.None, 0, null);
  if (c.kind === 'convGradInput') return () => ops.conv2dGradInput(dy, filter, image, window);
  return () => ops.conv2dGradFilter(x, dy, filterShape, window);
}

/** Fastest call in seconds, from the device's profile: what packing a call does counts, JavaScript does not. */
function timeOurs(call: () => Handle, seconds: number): number {
  let best = Number.POSITIVE_INFINITY;
  const end = performance.now() + seconds * 1e3;
  do {
    native.setProfiling(true);
    native.release(call());
    native.synchronize();
    native.setProfiling(false);
    let spent = 0;
    for (const range of native.takeProfile()) spent += range.endMs - range.startMs;
    best = Math.min(best, spent / 1e3);
  } while (performance.now() < end);
  return best;
}

/** Multiply-add ceiling in FLOP/s; 0 where the processor has none of the kind. */
function ceiling(half: boolean, seconds: number): number {
  let best = 0;
  const end = performance.now() + seconds * 1e3;
  try {
    do {
      native.setProfiling(true);
      native.release(native.ops.ceilingMultiply(half, 2_000));
      native.synchronize();
      native.setProfiling(false);
      for (const range of native.takeProfile())
        best = Math.max(best, range.flops / (range.endMs - range.startMs) / 1e-3);
    } while (performance.now() < end);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
  }
  return best;
}

interface Row {
  group: string;
  ours: number;
  peer: number;
  share: number;
}

async function measure(
  c: KernelCase,
  storage: Precision,
  peer: TorchPeer | undefined,
  threads: number,
): Promise<Omit<Row, 'group'>> {
  const call = prepare(c, storage);
  native.release(call());
  native.synchronize();
  const best = { ours: Number.POSITIVE_INFINITY, peer: Number.POSITIVE_INFINITY, ceiling: 0 };
  for (let round = 0; round < Number(options.rounds); round++) {
    best.ours = Math.min(best.ours, timeOurs(call, 0.03));
    if (peer) {
      for (const n of new Set([1, threads]))
        best.peer = Math.min(best.peer, await peer.time(c, storage, n, 0.03));
    }
    best.ceiling = Math.max(best.ceiling, ceiling(storage === 'bf16', 0.01) || ceiling(false, 0.01));
  }
  return {
    ours: flops(c) / best.ours / 1e9,
    peer: flops(c) / best.peer / 1e9,
    share: flops(c) / best.ours / best.ceiling,
  };
}

const geomean = (values: number[]): number =>
  Math.exp(values.reduce((sum, v) => sum + Math.log(v), 0) / values.length);

async function main(): Promise<void> {
  const probe = native.ops.ceilingMultiply(false, 1);
  const threads = native.info(probe).shape[0] as number;
  const peer = options.python ? new TorchPeer(options.python) : undefined;
  console.log(`${native.describe().model}, ${threads} thread(s); GFLOP/s`);
  for (const storage of ['f32', 'bf16'] as const) {
    if (options.precision && options.precision !== storage) continue;
    const rows: Row[] = [];
    for (const [group, c] of CASES) {
      if (!`${group} ${label(c)}`.includes(options.filter)) continue;
      const row = { group, ...(await measure(c, storage, peer, threads)) };
      rows.push(row);
      const ratio = peer
        ? ` torch ${row.peer.toFixed(1).padStart(7)}  ratio ${(row.ours / row.peer).toFixed(2)}`
        : '';
      console.log(
        `${storage.padEnd(4)} ${label(c).padEnd(46)} ours ${row.ours.toFixed(1).padStart(7)}${ratio}  ceiling ${(row.share * 100).toFixed(0)} %`,
      );
    }
    for (const group of new Set(rows.map((r) => r.group))) {
      const of = rows.filter((r) => r.group === group);
      const ratio = peer ? `ratio to torch ${geomean(of.map((r) => r.ours / r.peer)).toFixed(2)}, ` : '';
      console.log(
        `${storage} ${group}: geometric mean ${ratio}ceiling ${(geomean(of.map((r) => r.share)) * 100).toFixed(0)} %`,
      );
    }
  }
  peer?.close();
}

await main();
