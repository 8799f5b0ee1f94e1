/**
 * Reductions against float64; movement, indexing and image kernels against TensorFlow.js's own `cpu` engine, at awkward
 * sizes and in both storages.
 */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { requireClose } from '@equipoise/testing';
import * as tf from '@tensorflow/tfjs-core';
import t from 'tap';
import { currentDevice, type EquipoiseBackend, toStorage, useEngine } from '../index.js';

/** Numbers that bf16 holds exactly, so that storage changes nothing but the precision of results. */
function numbers(n: number, seed = 1): Float32Array {
  let state = seed >>> 0;
  return Float32Array.from({ length: n }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return ((state >>> 16) % 256) / 16 - 8;
  });
}
const tensor = (shape: number[], seed = 1): tf.Tensor => tf.tensor(numbers(tf.util.sizeFromShape(shape), seed), shape);
const ints = (shape: number[], below: number, seed = 7): tf.Tensor =>
  tf.tensor(Int32Array.from(numbers(tf.util.sizeFromShape(shape), seed), (x) => Math.abs(Math.round(x * 16)) % below), shape, 'int32');
const storageOf = (x: tf.Tensor): string => {
  const device = currentDevice() as EquipoiseBackend;
  return device.native.info(device.handle(x, 'test')).storage;
};

interface Case {
  name: string;
  run: (inputs: tf.Tensor[]) => tf.Tensor | tf.Tensor[];
  inputs: () => tf.Tensor[];
  /** Relative norm of the error allowed; 0 demands the same numbers. */
  tolerance?: number;
  /** Whether bf16 inputs give bf16 results. */
  keepsStorage?: boolean;
  /** Left out in bf16, where intermediate results round. */
  f32Only?: boolean;
}

type Outcome = Array<{ shape: number[]; dtype: string; values: number[] }>;
const results = ({ run, inputs }: Case, storage?: 'bf16'): { outcome: Outcome; storages: string[] } =>
  tf.tidy(() => {
    const given = inputs().map((x) => (storage && x.dtype === 'float32' ? toStorage(x, storage) : x));
    const ys = [run(given)].flat();
    const storages = storage ? ys.filter((y) => y.dtype === 'float32').map(storageOf) : [];
    return { outcome: ys.map((y) => ({ shape: y.shape, dtype: y.dtype, values: [...y.dataSync()] })), storages };
  });

/** Runs the cases on TensorFlow.js's engine, then on ours in f32 and bf16, and compares. */
async function compare(t: Tap.Test, cases: Case[]): Promise<void> {
  await useEngine('cpu');
  const expected = cases.map((c) => results(c).outcome);
  await useEngine('equipoise-cpu');
  cases.forEach((c, i) => {
    const check = (got: Outcome, storage: string, tolerance: number) => {
      const want = expected[i] as Outcome;
      if (got.length !== want.length) t.fail(`${c.name} ${storage}: ${got.length} results instead of ${want.length}`);
      want.forEach((y, k) => {
        const label = `${c.name} ${storage} result ${k}`;
        const actual = got[k] as Outcome[number];
        if (String(actual.shape) !== String(y.shape) || actual.dtype !== y.dtype) t.fail(`${label}: ${actual.dtype} [${actual.shape}] instead of ${y.dtype} [${y.shape}]`);
        else if (tolerance > 0) requireClose(label, actual.values, y.values, { relativeNorm: tolerance });
        else if (actual.values.some((v, j) => v !== y.values[j])) t.fail(`${label}: ${actual.values.slice(0, 20)} instead of ${y.values.slice(0, 20)}`);
      });
    };
    check(results(c).outcome, 'f32', c.tolerance ?? 0);
    if (c.f32Only) return;
    const narrow = results(c, 'bf16');
    check(narrow.outcome, 'bf16', c.keepsStorage && c.tolerance ? 5e-3 : (c.tolerance ?? 0));
    const want = c.keepsStorage ? 'bf16' : 'f32';
    if (narrow.storages.some((s) => s !== want)) t.fail(`${c.name}: stored as ${narrow.storages}, expected ${want}`);
  });
  t.pass(`${cases.length} cases in two storages`);
}

declare namespace Tap {
  type Test = Pick<typeof t, 'fail' | 'pass'>;
}

const move = (name: string, run: (x: tf.Tensor) => tf.Tensor | tf.Tensor[], ...shape: number[]): Case => ({
  name: `${name} [${shape}]`, run: ([x]) => run(x as tf.Tensor), inputs: () => [tensor(shape)], keepsStorage: true,
});

/** All orders of 0..n-1. */
const permutations = (n: number): number[][] =>
  n === 0 ? [[]] : permutations(n - 1).flatMap((rest) => Array.from({ length: n }, (_, i) => rest.toSpliced(i, 0, n - 1)));

t.test('movement', async (t) => {
  await compare(t, [
    ...permutations(4).map((perm) => move(`transpose ${perm}`, (x) => tf.transpose(x, perm), 2, 33, 5, 37)),
    ...permutations(3).map((perm) => move(`transpose ${perm}`, (x) => tf.transpose(x, perm), 65, 1, 130)),
    move('transpose', (x) => tf.transpose(x, [5, 0, 3, 1, 4, 2]), 2, 3, 4, 1, 5, 3),
    move('transpose', (x) => tf.transpose(x), 0, 3),
    move('slice', (x) => tf.slice(x, [1, 2, 0], [1, 3, 7]), 3, 6, 7),
    move('slice nothing', (x) => tf.slice(x, [1, 2], [0, 3]), 3, 6),
    move('stridedSlice', (x) => tf.stridedSlice(x, [4, 0, 1], [0, 6, 7], [-2, 3, 2]), 5, 6, 7),
    move('split', (x) => tf.split(x, [3, 0, 4], 1), 2, 7, 3),
    move('unstack', (x) => tf.unstack(x, 1), 2, 3, 5),
    move('reverse', (x) => tf.reverse(x, [0, 2]), 3, 4, 33),
    move('tile', (x) => tf.tile(x, [2, 1, 3]), 3, 5, 7),
    move('tile', (x) => tf.tile(x, [1, 2, 1, 2, 3, 1]), 2, 1, 3, 2, 1, 2),
    move('pad', (x) => tf.pad(x, [[1, 0], [0, 2], [3, 3]], 1.5), 3, 4, 5),
    move('pad empty', (x) => tf.pad(x, [[1, 0], [0, 2]], 2), 0, 4),
    move('mirrorPad reflect', (x) => tf.mirrorPad(x, [[2, 1], [0, 3]], 'reflect'), 4, 5),
    move('mirrorPad symmetric', (x) => tf.mirrorPad(x, [[4, 1], [0, 5]], 'symmetric'), 4, 5),
    move('depthToSpace', (x) => tf.depthToSpace(x as tf.Tensor4D, 2), 2, 3, 5, 12),
    move('spaceToBatchND', (x) => tf.spaceToBatchND(x, [2, 3], [[1, 0], [2, 2]]), 2, 5, 5, 3),
    move('batchToSpaceND', (x) => tf.batchToSpaceND(x, [2, 3], [[1, 0], [2, 1]]), 12, 3, 2, 3),
    move('diag', (x) => tf.diag(x), 3, 2),
    { name: 'concat', run: (xs) => tf.concat(xs, 1), inputs: () => [tensor([3, 2, 5]), tensor([3, 0, 5]), tensor([3, 7, 5], 2)], keepsStorage: true },
    { name: 'stack', run: (xs) => tf.stack(xs, 1), inputs: () => [tensor([3, 5]), tensor([3, 5], 2), tensor([3, 5], 3)], keepsStorage: true },
  ]);
});

const pooled = (name: string, shape: [number, number, number, number], run: (x: tf.Tensor4D) => tf.Tensor, tolerance: number): Case => ({
  name: `${name} [${shape}]`, run: ([x]) => run(x as tf.Tensor4D), inputs: () => [tensor(shape)], tolerance, keepsStorage: true,
});
const gradient = (f: (x: tf.Tensor4D) => tf.Tensor) => (x: tf.Tensor4D): tf.Tensor => tf.grad((v: tf.Tensor) => tf.sum(tf.square(f(v as tf.Tensor4D))))(x);

const SIZES: Array<[image: [number, number, number, number], size: [number, number]]> = [
  [[1, 5, 7, 3], [10, 14]], [[2, 8, 6, 17], [3, 9]], [[1, 1, 1, 4], [3, 2]], [[1, 4, 4, 300], [8, 8]],
];
const FLAGS = [[false, false], [true, false], [false, true]] as const;

t.test('resizing', async (t) => {
  await compare(t, SIZES.flatMap(([shape, size]) =>
    FLAGS.flatMap(([corners, half]) => [
      pooled(`bilinear ${size} ${corners} ${half}`, shape, (x) => tf.image.resizeBilinear(x, size, corners, half), 1e-6),
      pooled(`nearest ${size} ${corners} ${half}`, shape, (x) => tf.image.resizeNearestNeighbor(x, size, corners, half), 0),
    ]),
  ));
});

t.test('gradients of resizing are its adjoint: <resize(x), dy> = <x, resize*(dy)>', async (t) => {
  await useEngine('equipoise-cpu');
  for (const resize of [tf.image.resizeBilinear, tf.image.resizeNearestNeighbor]) {
    for (const [shape, size] of SIZES) {
      for (const [corners, half] of FLAGS) {
        tf.tidy(() => {
          const x = tensor(shape) as tf.Tensor4D;
          const dy = tensor([shape[0], ...size, shape[3]], 5) as tf.Tensor4D;
          const product = (v: tf.Tensor): tf.Scalar => tf.sum(tf.mul(resize(v as tf.Tensor4D, size, corners, half), dy));
          const forward = product(x).dataSync()[0] as number;
          const backward = tf.sum(tf.mul(tf.grad(product)(x), x)).dataSync();
          requireClose(`${resize.name} [${shape}] ${size} ${corners} ${half}`, backward, [forward], { relative: 1e-5, absolute: 2e-2 });
        });
      }
    }
  }
  t.pass();
});

t.test('pooling', async (t) => {
  const windows = [[2, 2, 'valid'], [3, 2, 'same'], [3, 1, 'same'], [5, 3, 'valid'], [1, 2, 'valid']] as const;
  const shapes: Array<[number, number, number, number]> = [[2, 9, 7, 5], [1, 6, 8, 259]];
  const cases = windows.flatMap(([filter, stride, pad]) => shapes.flatMap((shape) => {
    const max = (x: tf.Tensor4D) => tf.maxPool(x, filter, stride, pad);
    const average = (x: tf.Tensor4D) => tf.avgPool(x, filter, stride, pad);
    const name = `${filter} ${stride} ${pad}`;
    return [
      pooled(`max ${name}`, shape, max, 0),
      pooled(`average ${name}`, shape, average, 1e-6),
      { ...pooled(`max gradient ${name}`, shape, gradient(max), 1e-6), f32Only: true },
      { ...pooled(`average gradient ${name}`, shape, gradient(average), 1e-6), f32Only: true },
    ];
  }));
  await compare(t, cases);
});

t.test('indexing', async (t) => {
  await compare(t, [
    { name: 'gather rows', run: ([x, i]) => tf.gather(x as tf.Tensor, i as tf.Tensor1D), inputs: () => [tensor([50, 33]), ints([3, 77], 50)], keepsStorage: true },
    { name: 'gather columns', run: ([x, i]) => tf.gather(x as tf.Tensor, i as tf.Tensor1D, 2), inputs: () => [tensor([3, 5, 9]), ints([20], 9)], keepsStorage: true },
    { name: 'gather in batches', run: ([x, i]) => tf.gather(x as tf.Tensor, i as tf.Tensor1D, 2, 1), inputs: () => [tensor([3, 5, 9, 2]), ints([3, 4], 9)], keepsStorage: true },
    { name: 'gather nothing', run: ([x, i]) => tf.gather(x as tf.Tensor, i as tf.Tensor1D), inputs: () => [tensor([5, 3]), ints([0], 5)], keepsStorage: true },
    { name: 'gatherND', run: ([x, i]) => tf.gatherND(x as tf.Tensor, i as tf.Tensor), inputs: () => [tensor([4, 5, 7]), ints([30, 2], 4)], keepsStorage: true },
    { name: 'scatterND', run: ([i, u]) => tf.scatterND(i as tf.Tensor, u as tf.Tensor, [6, 5, 3]), inputs: () => [ints([40, 2], 5), tensor([40, 3])], keepsStorage: true, tolerance: 1e-6 },
    { name: 'segment sum', run: ([x, s]) => tf.unsortedSegmentSum(x as tf.Tensor, s as tf.Tensor1D, 7), inputs: () => [tensor([500, 130]), ints([500], 9)], tolerance: 1e-6 },
    { name: 'oneHot', run: ([i]) => tf.oneHot(i as tf.Tensor, 6, 2, -1, 'float32'), inputs: () => [ints([4, 5], 8)] },
    { name: 'topk', run: ([x]) => { const { values, indices } = tf.topk(x as tf.Tensor, 9); return [values, indices]; }, inputs: () => [tensor([13, 257])], keepsStorage: true },
    { name: 'bincount', run: ([i, w]) => tf.bincount(i as tf.Tensor1D, w as tf.Tensor1D, 6), inputs: () => [ints([300], 9), tensor([300])], tolerance: 1e-6 },
    ...['bij,bjk->bik', 'ij,jk->ki', 'bij,bij->b', 'ij,j->i', 'ij,kl->ikjl', 'ij,ij->ij', 'bhid,bhjd->hbij'].map((equation): Case => {
      const sizes: Record<string, number> = { b: 3, h: 2, i: 5, j: 7, k: 4, l: 2, d: 9 };
      const shapes = equation.split('->')[0]?.split(',').map((term) => [...term].map((label) => sizes[label] as number)) ?? [];
      return { name: equation, run: (xs) => tf.einsum(equation, ...xs), inputs: () => shapes.map((shape, i) => tensor(shape, i + 1)), tolerance: 1e-6, f32Only: true };
    }),
  ]);
  const device = currentDevice() as EquipoiseBackend;
  t.throws(() => tf.gather(tensor([3, 2]), [3]), { name: 'RangeError', message: /GatherV2: the index value 3 is not in \[0, 2\]/ });
  // An index computed on the device is found there; the fault comes with the next read, once.
  const computed = tf.add(tf.tensor1d([1], 'int32'), tf.scalar(4, 'int32'));
  const y = tf.gather(tensor([3, 2]), computed as tf.Tensor1D);
  await t.rejects(y.data(), { message: /GatherV2 \[3,2\] x \[1\]: index 5 is outside 0\.\.2/ });
  t.same([...(await tf.scalar(1).data())], [1]);
  t.equal(device.kind, 'cpu');
});

/** Float64 reduction over the axes of a dense array. */
function reduce64(x: ArrayLike<number>, shape: number[], axes: number[], f: (a: number, b: number) => number, start: number): number[] {
  const kept = shape.map((_, d) => d).filter((d) => !axes.includes(d));
  const out = new Array<number>(kept.reduce((n, d) => n * (shape[d] as number), 1)).fill(start);
  for (let i = 0; i < x.length; i++) {
    const index: number[] = [];
    for (let d = shape.length - 1, rest = i; d >= 0; d--) {
      index[d] = rest % (shape[d] as number);
      rest = Math.floor(rest / (shape[d] as number));
    }
    const at = kept.reduce((sum, d) => sum * (shape[d] as number) + (index[d] as number), 0);
    out[at] = f(out[at] as number, x[i] as number);
  }
  return out;
}

const subsets = (n: number): number[][] => Array.from({ length: 2 ** n - 1 }, (_, bits) => Array.from({ length: n }, (_, d) => d).filter((d) => (bits + 1) & (1 << d)));

t.test('reductions over every set of axes, in both storages, against float64', async (t) => {
  await useEngine('equipoise-cpu');
  for (const shape of [[7, 33, 5], [1, 70, 1, 130], [2, 1, 3, 2, 2, 3], [3, 0, 2], [4097], [600, 33]]) {
    const x = numbers(tf.util.sizeFromShape(shape));
    const small = x.map((v) => 1 + v / 64);
    for (const storage of ['f32', 'bf16'] as const) {
      tf.tidy(() => {
        const xt = toStorage(tf.tensor(x, shape), storage);
        const st = toStorage(tf.tensor(small, shape), storage);
        const exact = [...st.dataSync()];
        for (const axes of subsets(shape.length)) {
          const count = axes.reduce((n, d) => n * (shape[d] as number), 1);
          const sum = reduce64(x, shape, axes, (a, b) => a + b, 0);
          const check = (name: string, y: tf.Tensor, want: number[], relative: number) => {
            if (y.size > 0 && storageOf(y) !== 'f32') t.fail(`${name}: stored as ${storageOf(y)}`);
            const finite = want.every(Number.isFinite);
            if (finite) requireClose(`${name} [${shape}] over ${axes} ${storage}`, y.dataSync(), want, { relative, absolute: 1e-6 });
            else if (String([...y.dataSync()]) !== String(want)) t.fail(`${name} [${shape}] over ${axes}: ${y.dataSync()} instead of ${want}`);
          };
          check('sum', tf.sum(xt, axes), sum, 1e-7);
          check('mean', tf.mean(xt, axes), sum.map((v) => v / count), 1e-7);
          check('max', tf.max(xt, axes), reduce64(x, shape, axes, Math.max, Number.NEGATIVE_INFINITY), 0);
          check('min', tf.min(xt, axes), reduce64(x, shape, axes, Math.min, Number.POSITIVE_INFINITY), 0);
          if (count < 400) check('prod', tf.prod(st, axes), reduce64(exact, shape, axes, (a, b) => a * b, 1), 1e-6);
        }
      });
    }
  }
  t.end();
});

t.test('large sums keep float32 accuracy; int32 and bool reduce exactly; NaN stays', async (t) => {
  await useEngine('equipoise-cpu');
  const n = 3_000_001;
  const x = numbers(n).map((v) => v + 1000.1);
  const exact = x.reduce((a, b) => a + b, 0);
  requireClose('sum', tf.sum(tf.tensor1d(x)).dataSync(), [exact], { relative: 1e-7 });
  requireClose('columns', tf.sum(tf.tensor2d(x.subarray(0, 3_000_000), [1_000_000, 3]), 0).dataSync(), reduce64(x.subarray(0, 3_000_000), [1_000_000, 3], [0], (a, b) => a + b, 0), { relative: 1e-7 });
  t.same([...tf.sum(tf.tensor1d([2 ** 31 - 1, 1, 5], 'int32')).dataSync()], [(2 ** 31 + 5) | 0]);
  t.same([...tf.sum(tf.tensor1d(new Uint8Array(100_000).fill(1), 'bool')).dataSync()], [100_000]);
  t.same([tf.all(tf.tensor1d([1, 0, 1], 'bool')).dataSync()[0], tf.any(tf.tensor1d([0, 0, 1], 'bool')).dataSync()[0]], [0, 1]);
  const withNan = Float32Array.from({ length: 5000 }, (_, i) => (i === 4321 ? Number.NaN : i));
  for (const f of [tf.max, tf.min, tf.sum]) t.ok(Number.isNaN(f(tf.tensor1d(withNan)).dataSync()[0]), f.name);
  t.equal(tf.argMax(tf.tensor1d([1, 5, 5, 2])).dataSync()[0], 1);
  t.same([...tf.argMin(tf.tensor2d([[3, 1], [0, 1], [0, 0]]), 0).dataSync()], [1, 2]);
});

t.test('scans and softmax against float64', async (t) => {
  await useEngine('equipoise-cpu');
  const x = numbers(3 * 700);
  const last = tf.slice(tf.cumsum(tf.tensor2d(x, [3, 700]), 1), [0, 699], [3, 1]).dataSync();
  requireClose('cumsum', last, reduce64(x, [3, 700], [1], (a, b) => a + b, 0), { absolute: 1e-4 });
  const logits = numbers(5 * 1280);
  const soft = tf.softmax(tf.tensor2d(logits, [5, 1280])).dataSync();
  const want = Array.from({ length: 5 }, (_, r) => {
    const row = [...logits.subarray(r * 1280, (r + 1) * 1280)].map((v) => Math.exp(v));
    const sum = row.reduce((a, b) => a + b, 0);
    return row.map((v) => v / sum);
  }).flat();
  requireClose('softmax', soft, want, { relative: 1e-6 });
});

t.test('results do not depend on the number of threads', (t) => {
  const script = `
    import * as tf from '@tensorflow/tfjs-core';
    import { createHash } from 'node:crypto';
    import { useEngine } from '../index.js';
    await useEngine('equipoise-cpu');
    const x = tf.reshape(tf.sin(tf.range(0, 500_000)), [500, 1000]);
    const ids = tf.tensor1d(Int32Array.from({ length: 500 }, (_, i) => i % 7));
    const results = [tf.sum(x), tf.sum(x, 0), tf.mean(x, 1), tf.prod(tf.add(x, 1), 0), tf.softmax(x), tf.max(x, 0), tf.transpose(x), tf.unsortedSegmentSum(x, ids, 7)];
    const hash = createHash('sha256');
    for (const y of results) hash.update(y.dataSync());
    console.log(hash.digest('hex'));`;
  const args = ['--import=tsx', '--conditions=equipoise-source', '--input-type=module', '-e', script];
  const digest = (threads: number): string => {
    const env = { ...process.env, EQUIPOISE_THREADS: String(threads) };
    const { stdout, stderr } = spawnSync(process.execPath, args, { cwd: fileURLToPath(new URL('.', import.meta.url)), env, encoding: 'utf8' });
    const line = stdout.trim().split('\n').at(-1) ?? '';
    if (!/^[0-9a-f]{64}$/.test(line)) throw new Error(`no digest: ${stdout}${stderr}`);
    return line;
  };
  t.equal(digest(3), digest(1));
  t.end();
});
