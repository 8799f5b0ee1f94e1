/**
 * cuBLASLt and cuDNN beside the built-in kernels, on every layout and epilogue that they are asked for. On the CUDA
 * sources compiled for the host, stand-ins take their place (native/simt/libraries): they compute what the libraries'
 * documentation says of the calls, so that layouts, strides, padding and epilogues are checked without a GPU.
 */
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { addonCandidates } from '@equipoise/native';
import { bf16Values, requireClose, sizeOf, testEngine } from '@equipoise/testing';
import * as tf from '@tensorflow/tfjs-core';
import t, { type Test } from 'tap';
import {
  type Activation,
  conv2d,
  currentDevice,
  type EquipoiseBackend,
  linear,
  record,
  toStorage,
  uploadWeight,
  useEngine,
} from '../index.js';

const engine = testEngine();
/** In the second process of this file: the cache of the first. */
const cache = process.env.EQUIPOISE_TEST_CACHE;
if (engine === 'equipoise-simt') {
  process.env.XDG_CACHE_HOME = cache ?? t.testdir();
  const folder = path.dirname(addonCandidates('simt').find((file) => fs.existsSync(file)) ?? '');
  process.env.EQUIPOISE_CUBLASLT = path.join(folder, 'simt_cublaslt.so');
  process.env.EQUIPOISE_CUDNN = path.join(folder, 'simt_cudnn.so');
}
await useEngine(engine);
const { native } = currentDevice() as EquipoiseBackend;

/** The real cuDNN compiles a plan for seconds; the stand-in makes any number. */
const compiles = engine === 'equipoise-cuda' && !process.env.EQUIPOISE_CUDNN?.includes('simt_cudnn');

const missing = (library: string): string | undefined => {
  if (engine === 'equipoise-cpu') return 'the CPU device opens no libraries';
  const state = String(native.describe()[library]);
  return engine !== 'equipoise-simt' && state.startsWith('none') ? `${library}: ${state}` : undefined;
};

/** Values that bf16 holds exactly. */
const numbers = (shape: readonly number[], seed: number): Float32Array => bf16Values(sizeOf(shape), seed);
const tensor = <T extends tf.Tensor>(shape: number[], seed: number, storage: 'f32' | 'bf16'): T =>
  toStorage(tf.tensor(numbers(shape, seed), shape), storage) as T;
const frozen = <T extends tf.Tensor>(shape: number[], seed: number): T =>
  uploadWeight(new Uint8Array(numbers(shape, seed).buffer), shape, 'F32', { storage: 'bf16' }) as T;

/** How many products have been computed the forced way so far, and how many it was not able to. */
function counts(): { able: number; unable: number } {
  const [, able, unable] = /: (\d+) products, unable (\d+)/.exec(String(native.describe()['forced'])) ?? [];
  return { able: Number(able), unable: Number(unable) };
}

/** Runs `compute` by the built-in kernels and by `way`; says how often that was able. */
function bothWays(
  way: string,
  compute: () => tf.Tensor,
): { expected: tf.Tensor; actual: tf.Tensor; able: number } {
  process.env.EQUIPOISE_CUDA_TUNE = '0';
  const expected = tf.tidy(compute);
  process.env.EQUIPOISE_CUDA_TUNE = way;
  const before = counts();
  const actual = tf.tidy(compute);
  const after = counts();
  if (after.able + after.unable === before.able + before.unable) throw new Error('nothing was chosen');
  return { expected, actual, able: after.able - before.able };
}

/** Products that each library has computed. */
const computed = new Map<string, number>();

/**
 * Compares a way with the built-in kernels: both storages round once, sums are of up to `terms` products below 1.
 * @param wanted how many of its products the way must be able to compute. A real library may have no kernel for some of
 * these small ones.
 */
function check(
  t: Test,
  way: string,
  what: string,
  wanted: number,
  terms: number,
  compute: () => tf.Tensor,
): void {
  const { expected, actual, able } = bothWays(way, compute);
  requireClose(what, actual.dataSync(), expected.dataSync(), {
    relative: 1e-2,
    absolute: 2e-3 * Math.sqrt(terms),
  });
  tf.dispose([expected, actual]);
  if (engine === 'equipoise-simt') t.equal(able, wanted, what);
  else t.ok(able <= wanted, what);
  computed.set(way, (computed.get(way) ?? 0) + able);
}

const skipBlas = missing('cuBLASLt');
t.test('cuBLASLt', skipBlas === undefined ? {} : { skip: skipBlas }, async (t) => {
  for (const storage of ['f32', 'bf16'] as const) {
    for (const [transposeA, transposeB] of [
      [false, false],
      [false, true],
      [true, false],
      [true, true],
    ] as const) {
      for (const batch of [1, 3]) {
        const [m, n, k] = [24, 40, 56];
        const a = tensor([batch, ...(transposeA ? [k, m] : [m, k])], 1, storage);
        const b = tensor([batch, ...(transposeB ? [n, k] : [k, n])], 2, storage);
        const name = `${storage} ${transposeA ? '^T' : ''} x ${transposeB ? '^T' : ''} times ${batch}`;
        const compute = (): tf.Tensor => tf.matMul(a, b, transposeA, transposeB);
        check(t, 'cuBLASLt', name, 1, k, compute);
        tf.dispose([a, b]);
      }
    }
  }
  const [x, weight] = [tensor<tf.Tensor2D>([20, 48], 3, 'bf16'), frozen<tf.Tensor2D>([32, 48], 4)];
  const [half, full] = [tensor<tf.Tensor1D>([32], 5, 'bf16'), tensor<tf.Tensor1D>([32], 5, 'f32')];
  const withBias = (what: string, wanted: number, bias: tf.Tensor1D | null, activation: Activation): void =>
    check(t, 'cuBLASLt', what, wanted, 48, () => linear(x, weight, bias, activation));
  withBias('plain', 1, null, 'none');
  withBias('a bias in the storage of the result', 1, half, 'none');
  withBias('bias and relu', 1, half, 'relu');
  withBias('relu', 1, null, 'relu');
  withBias('a bias of another storage: the built-in kernel', 0, full, 'none');
  withBias('an activation that it has not: the built-in kernel', 0, half, 'silu');
  const residual = tensor<tf.Tensor2D>([20, 32], 6, 'bf16');
  const added = (): tf.Tensor => linear(x, weight, half, 'none', { residual });
  check(t, 'cuBLASLt', 'a residual in the storage of the result', 1, 48, added);
  t.ok(computed.get('cuBLASLt'), 'the library has computed some of them');
});

interface Window {
  readonly x: [number, number, number, number];
  readonly taps: [number, number];
  readonly out: number;
  readonly stride?: number;
  readonly dilation?: number;
  readonly pad: 'same' | 'valid' | [[number, number], [number, number]];
}
const WINDOWS: Readonly<Record<string, Window>> = {
  '3x3': { x: [2, 5, 6, 16], taps: [3, 3], out: 24, pad: 'same' },
  'uneven axes': {
    x: [1, 4, 9, 8],
    taps: [1, 5],
    out: 8,
    pad: [
      [0, 0],
      [2, 1],
    ],
  },
  'stride 2, padding at the end alone': {
    x: [2, 8, 6, 8],
    taps: [3, 3],
    out: 16,
    stride: 2,
    pad: [
      [0, 1],
      [0, 1],
    ],
  },
  'rows that no window meets': { x: [1, 9, 8, 8], taps: [2, 2], out: 8, stride: 3, pad: 'valid' },
  'dilation 2': { x: [1, 7, 8, 8], taps: [3, 3], out: 8, dilation: 2, pad: 'same' },
};

const skipDnn = missing('cuDNN');
t.test('cuDNN', skipDnn === undefined ? {} : { skip: skipDnn }, async (t) => {
  const filterOf = ({ x, taps, out }: Window): tf.Tensor4D => frozen<tf.Tensor4D>([...taps, x[3], out], 7);
  for (const [name, window] of Object.entries(WINDOWS)) {
    const { x: shape, taps, out, stride = 1, dilation = 1, pad } = window;
    const [x, filter] = [tensor<tf.Tensor4D>(shape, 6, 'bf16'), filterOf(window)];
    const terms = taps[0] * taps[1] * shape[3];
    const biases = [tensor<tf.Tensor1D>([out], 8, 'f32'), null, tensor<tf.Tensor1D>([out], 8, 'bf16')];
    const activations = ['silu', 'none', 'relu', 'gelu'] as const;
    for (const bias of compiles ? biases.slice(0, 1) : biases) {
      for (const activation of compiles && name !== '3x3' ? activations.slice(0, 1) : activations) {
        const compute = (): tf.Tensor => conv2d(x, filter, bias, { stride, dilation, pad, activation });
        check(t, 'cuDNN', `${name}, ${activation}, bias ${bias?.size}`, 1, terms, compute);
      }
    }
    // The gradient of the image; with strides the built-in kernels share it out over residues.
    const gradient = tf.grad((image: tf.Tensor) =>
      conv2d(image as tf.Tensor4D, filter, null, { stride, dilation, pad }),
    );
    const dy = toStorage(tf.onesLike(conv2d(x, filter, null, { stride, dilation, pad })), 'bf16');
    const wanted = stride === 1 ? 2 : 1;
    check(t, 'cuDNN', `${name}: gradient, with the forward pass`, wanted, terms, () => gradient(x, dy));
  }

  const window = WINDOWS['3x3'] as Window;
  const [x, filter] = [tensor<tf.Tensor4D>(window.x, 6, 'bf16'), filterOf(window)];
  const bias = tensor<tf.Tensor1D>([24], 9, 'f32');
  const more = (what: string, wanted: number, compute: () => tf.Tensor): void =>
    check(t, 'cuDNN', what, wanted, 144, compute);
  more('quick_gelu', 0, () => conv2d(x, filter, null, { pad: 'same', activation: 'quick_gelu' }));
  const moving = tensor<tf.Tensor4D>([3, 3, 16, 24], 7, 'bf16');
  more('a filter that may change', 0, () => conv2d(x, moving, null, { pad: 'same' }));
  for (const storage of ['f32', 'bf16'] as const)
    for (const wide of [false, true]) {
      const residual = tensor<tf.Tensor4D>([2, 5, 6, 24], 12, storage);
      const compute = (): tf.Tensor => conv2d(x, filter, bias, { pad: 'same', residual, wide });
      more(`${storage} residual, wide: ${wide}`, 1, compute);
    }
  t.ok(computed.get('cuDNN'), 'the library has computed some of them');

  // Recorded: the call is part of the recording, and reads the inputs of each run.
  process.env.EQUIPOISE_CUDA_TUNE = 'cuDNN';
  const compute = (image: tf.Tensor): tf.Tensor[] => [
    conv2d(image as tf.Tensor4D, filter, bias, { pad: 'same', activation: 'silu' }),
  ];
  const recorded = record([x], compute);
  t.ok(recorded.replays);
  for (const seed of [10, 11]) {
    const image = tensor(window.x, seed, 'bf16');
    const [run] = recorded.run(image) as [tf.Tensor];
    t.same([...run.dataSync()], [...(compute(image)[0] as tf.Tensor).dataSync()], `replay with seed ${seed}`);
  }
  recorded.dispose();
});

/** `12 made, 3 read` */
const plans = (): number[] => String(native.describe()['cuDNN plans']).match(/\d+/g)?.map(Number) ?? [];
const elsewhere = engine !== 'equipoise-simt' && 'plans are counted with the stand-in library';
t.test('plans of cuDNN', { skip: elsewhere }, async (t) => {
  const [made = 0, read = 0] = plans();
  if (cache !== undefined) {
    t.same([made, read > 20], [1, true], 'made anew is only the plan whose file is damaged');
    return;
  }
  t.equal(read, 0);
  const folder = path.join(
    process.env.XDG_CACHE_HOME as string,
    'equipoise',
    'cudnn-plans',
    'simt, cuDNN 90000',
  );
  const files = fs.readdirSync(folder).map((file) => path.join(folder, file));
  t.equal(files.length, made, 'each plan is kept');
  const [first] = files as [string];
  fs.writeFileSync(first, fs.readFileSync(first).subarray(0, 100));
  const env = { ...process.env, EQUIPOISE_TEST_CACHE: process.env.XDG_CACHE_HOME };
  const args = [...process.execArgv, fileURLToPath(import.meta.url)];
  await t.spawn(process.execPath, args, { env, stdio: 'pipe' }, 'another process reads them');
});
