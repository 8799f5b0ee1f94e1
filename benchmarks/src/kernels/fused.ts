/**
 * The fused kernels beside PyTorch and PEFT on the CPU, beside the floor of the bytes they must move, and DoRA beside
 * the frozen layer it adapts.
 *
 *   npx tsx --conditions=equipoise-source benchmarks/src/kernels/fused.ts --python PATH [--filter TEXT]
 *     [--precision f32|bf16] [--rounds N]
 *
 * Both sides take turns in short bursts, so that other load meets them alike, and the fastest call of each counts.
 * PyTorch runs with one thread and with as many as we use; its better figure is the peer. The floor is the kernel's
 * bytes at the rate of a memory copy of 64 MB, read and written, measured in the same rounds; a kernel whose tensors
 * stay in cache beats it.
 */
import { parseArgs } from 'node:util';
import { type Handle, loadAddon, NativeActivation } from '@equipoise/native';
import { type FusedCase, FUSED_CASES, fusedLabel, type Precision } from './fused-cases.js';
import { TorchPeer } from './torch-peer.js';

const { values: options } = parseArgs({
  options: {
    python: { type: 'string' },
    filter: { type: 'string', default: '' },
    precision: { type: 'string' },
    rounds: { type: 'string', default: '10' },
  },
});

const native = loadAddon('cpu');
const { ops } = native;

function tensor(shape: number[], storage: Precision = 'f32', frozen = false): Handle {
  const values = new Float32Array(shape.reduce((a, b) => a * b, 1));
  for (let i = 0; i < values.length; i++) values[i] = ((Math.imul(i, 2654435761) >>> 8) & 0xffff) / 32768 - 1;
  return native.upload(values, 'f32', shape, storage, frozen);
}

const release = (result: Handle | Array<Handle | undefined>): void => {
  for (const handle of Array.isArray(result) ? result : [result]) if (handle) native.release(handle);
};

type Call = () => Handle | Array<Handle | undefined>;

/** Forward and backward of an adapted layer, and of the frozen layer beneath it. */
function prepareDora(c: Extract<FusedCase, { kind: 'dora' }>, storage: Precision): { adapted: Call; frozen: Call } {
  const [x, dy] = [tensor([c.rows, c.inputs], storage), tensor([c.rows, c.outputs], storage)];
  const weight = tensor([c.outputs, c.inputs], storage, true);
  const [a, b] = [tensor([c.rank, c.inputs]), tensor([c.outputs, c.rank])];
  const norm = ops.doraNorm(weight, a, b, 1);
  const adapted = (): Handle[] => {
    const [y, u, scale] = ops.doraLinear(x, weight, a, b, norm, norm, null, 1) as [Handle, Handle, Handle];
    const h = ops.doraGradHidden(dy, b, scale, 1);
    const dx = ops.doraGradInput(dy, h, weight, a, scale);
    const lora = ops.doraGradLora(x, dy, u, h, scale, 1);
    const dm = ops.doraGradMagnitude(x, dy, y, u, weight, b, scale, norm, null, 1);
    return [y, u, scale, h, dx, ...lora, dm];
  };
  const frozen = (): Handle[] => [
    ops.linear(x, weight, null, 0, null, null, 1, null, false),
    ops.matMul(dy, weight, false, false, false),
  ];
  return { adapted, frozen };
}

/** One call of the kernel; its tensors live as long as the closure. */
function prepare(c: FusedCase, storage: Precision): Call {
  switch (c.kind) {
    case 'groupNorm': {
      const [x, g] = [tensor([c.batch, c.size, c.size, c.channels], storage), tensor([c.channels])];
      return () => ops.groupNorm(x, g, g, 32, 1e-5, true);
    }
    case 'layerNorm': {
      const [x, g] = [tensor([c.rows, c.channels], storage), tensor([c.channels])];
      return () => ops.layerNorm(x, g, g, 1e-5);
    }
    case 'geglu': {
      const x = tensor([c.rows, 2 * c.channels], storage);
      return () => ops.geglu(x, null);
    }
    case 'gelu': {
      const x = tensor([c.rows, c.channels], storage);
      return () => ops.activation(NativeActivation.Gelu, x, null);
    }
    case 'attention': {
      const width = c.heads * c.depth;
      const [q, k] = [tensor([c.batch, c.queries, width], storage), tensor([c.batch, c.keys, width], storage)];
      return () => ops.attention(q, k, k, c.heads, false, c.depth ** -0.5);
    }
    case 'dora':
      return prepareDora(c, storage).adapted;
    case 'direction': {
      const product = (counts: number[]): number => counts.reduce((a, b) => a * b, 1);
      const k = c.categories[c.attribute] as number;
      const [before, after] = [product(c.categories.slice(0, c.attribute)), product(c.categories.slice(c.attribute + 1))];
      const [text, original] = [tensor([before * k * after, c.depth]), tensor([c.depth])];
      const means = tensor([k, c.depth]);
      return () => ops.directionAlignment(text, original, means, before, k, after, 0.8, new Array<number>(k).fill(1));
    }
    case 'guidedStep': {
      const x = () => tensor([c.batch, c.size, c.size, 4], storage);
      const [u, e, latents, noise] = [x(), x(), x(), x()];
      return () => ops.guidedStep(u, e, latents, noise, 7.5, 3, 1.01, -0.3, 0.1);
    }
    case 'adamW': {
      const size = [Math.floor(c.elements / c.tensors)];
      const tensors = Array.from({ length: 4 * c.tensors }, () => tensor(size));
      return () => ops.adamW(tensors, 1, 1e-4, 0.9, 0.999, 1e-8, 0.01, 1, 1);
    }
    case 'randomNormal':
      return () => ops.philox([c.elements], 1, 0, 0, 0, 0, true);
  }
}

interface Timing {
  seconds: number;
  bytes: number;
}

/** Fastest call in `seconds`, from the device's profile: JavaScript does not count. */
function timeOurs(call: Call, seconds: number): Timing {
  const best: Timing = { seconds: Number.POSITIVE_INFINITY, bytes: 0 };
  const end = performance.now() + seconds * 1e3;
  do {
    native.setProfiling(true);
    release(call());
    native.synchronize();
    native.setProfiling(false);
    let spent = 0;
    best.bytes = 0;
    for (const range of native.takeProfile()) {
      spent += (range.endMs - range.startMs) / 1e3;
      best.bytes += range.bytes;
    }
    best.seconds = Math.min(best.seconds, spent);
  } while (performance.now() < end);
  return best;
}

interface Measured {
  ours: number;
  peer: number;
  floor: number;
  frozen: number;
}

async function measure(c: FusedCase, storage: Precision, peer: TorchPeer | undefined, threads: number): Promise<Measured> {
  const { adapted, frozen } = c.kind === 'dora' ? prepareDora(c, storage) : { adapted: prepare(c, storage), frozen: undefined };
  const block = tensor([1 << 24]);
  const best: Measured = { ours: Infinity, peer: Infinity, floor: 0, frozen: Infinity };
  let [bytes, rate] = [0, 0];
  for (let round = 0; round < Number(options.rounds); round++) {
    const ours = timeOurs(adapted, 0.03);
    best.ours = Math.min(best.ours, ours.seconds);
    bytes = ours.bytes;
    if (frozen) best.frozen = Math.min(best.frozen, timeOurs(frozen, 0.03).seconds);
    const copy = timeOurs(() => ops.ceilingCopy(block), 0.01);
    rate = Math.max(rate, copy.bytes / copy.seconds);
    if (peer) {
      for (const n of new Set([1, threads])) best.peer = Math.min(best.peer, await peer.time(c, storage, n, 0.03));
    }
  }
  native.release(block);
  return { ...best, floor: bytes / rate };
}

const ms = (seconds: number): string => (seconds * 1e3).toFixed(3).padStart(8);

async function main(): Promise<void> {
  const probe = ops.ceilingMultiply(false, 1);
  const threads = native.info(probe).shape[0] as number;
  const peer = options.python ? new TorchPeer(options.python, 'torch_fused.py') : undefined;
  console.log(`${native.describe().model}, ${threads} thread(s); milliseconds`);
  for (const storage of ['f32', 'bf16'] as const) {
    if (options.precision && options.precision !== storage) continue;
    for (const c of FUSED_CASES) {
      if (!fusedLabel(c).includes(options.filter) || (storage === 'bf16' && c.f32Only)) continue;
      const { ours, peer: theirs, floor, frozen } = await measure(c, storage, peer, threads);
      const ratio = peer ? `  peer ${ms(theirs)}  ratio ${(theirs / ours).toFixed(2)}` : '';
      const beside = Number.isFinite(frozen) ? `  frozen layer ${ms(frozen)}, ${(ours / frozen).toFixed(2)} times` : '';
      console.log(`${storage.padEnd(4)} ${fusedLabel(c).padEnd(42)} ours ${ms(ours)}${ratio}  floor ${ms(floor)}${beside}`);
    }
  }
  peer?.close();
}

await main();
