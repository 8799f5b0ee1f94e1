/** Reductions, scans and softmax against float64, in both storages and with any number of threads. */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { requireClose, testEngine } from '@equipoise/testing';
import * as tf from '@tensorflow/tfjs-core';
import t from 'tap';
import { toStorage, useEngine } from '../index.js';
import { numbers, storageOf } from './testing/inputs.js';

/** Float64 reduction over the axes of a dense array. */
function reduce64(
  x: ArrayLike<number>,
  shape: number[],
  axes: number[],
  f: (a: number, b: number) => number,
  start: number,
): number[] {
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

const subsets = (n: number): number[][] =>
  Array.from({ length: 2 ** n - 1 }, (_, bits) =>
    Array.from({ length: n }, (_, d) => d).filter((d) => (bits + 1) & (1 << d)),
  );

t.test('reductions over every set of axes, in both storages, against float64', async (t) => {
  await useEngine(testEngine());
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
            if (finite)
              requireClose(`${name} [${shape}] over ${axes} ${storage}`, y.dataSync(), want, {
                relative,
                absolute: 1e-6,
              });
            else if (String([...y.dataSync()]) !== String(want))
              t.fail(`${name} [${shape}] over ${axes}: ${y.dataSync()} instead of ${want}`);
          };
          check('sum', tf.sum(xt, axes), sum, 1e-7);
          check(
            'mean',
            tf.mean(xt, axes),
            sum.map((v) => v / count),
            1e-7,
          );
          check('max', tf.max(xt, axes), reduce64(x, shape, axes, Math.max, Number.NEGATIVE_INFINITY), 0);
          check('min', tf.min(xt, axes), reduce64(x, shape, axes, Math.min, Number.POSITIVE_INFINITY), 0);
          if (count < 400)
            check(
              'prod',
              tf.prod(st, axes),
              reduce64(exact, shape, axes, (a, b) => a * b, 1),
              1e-6,
            );
        }
      });
    }
  }
  t.end();
});

t.test('large sums keep float32 accuracy; int32 and bool reduce exactly; NaN stays', async (t) => {
  await useEngine(testEngine());
  const n = 3_000_001;
  const x = numbers(n).map((v) => v + 1000.1);
  const exact = x.reduce((a, b) => a + b, 0);
  requireClose('sum', tf.sum(tf.tensor1d(x)).dataSync(), [exact], { relative: 1e-7 });
  requireClose(
    'columns',
    tf.sum(tf.tensor2d(x.subarray(0, 3_000_000), [1_000_000, 3]), 0).dataSync(),
    reduce64(x.subarray(0, 3_000_000), [1_000_000, 3], [0], (a, b) => a + b, 0),
    { relative: 1e-7 },
  );
  t.same([...tf.sum(tf.tensor1d([2 ** 31 - 1, 1, 5], 'int32')).dataSync()], [(2 ** 31 + 5) | 0]);
  t.same([...tf.sum(tf.tensor1d(new Uint8Array(100_000).fill(1), 'bool')).dataSync()], [100_000]);
  t.same(
    [
      tf.all(tf.tensor1d([1, 0, 1], 'bool')).dataSync()[0],
      tf.any(tf.tensor1d([0, 0, 1], 'bool')).dataSync()[0],
    ],
    [0, 1],
  );
  const withNan = Float32Array.from({ length: 5000 }, (_, i) => (i === 4321 ? Number.NaN : i));
  for (const f of [tf.max, tf.min, tf.sum]) t.ok(Number.isNaN(f(tf.tensor1d(withNan)).dataSync()[0]), f.name);
  t.equal(tf.argMax(tf.tensor1d([1, 5, 5, 2])).dataSync()[0], 1);
  t.same(
    [
      ...tf
        .argMin(
          tf.tensor2d([
            [3, 1],
            [0, 1],
            [0, 0],
          ]),
          0,
        )
        .dataSync(),
    ],
    [1, 2],
  );
});

t.test('scans and softmax against float64', (t) => {
  const x = numbers(3 * 700);
  const last = tf.slice(tf.cumsum(tf.tensor2d(x, [3, 700]), 1), [0, 699], [3, 1]).dataSync();
  requireClose(
    'cumsum',
    last,
    reduce64(x, [3, 700], [1], (a, b) => a + b, 0),
    { absolute: 1e-4 },
  );
  // More rows than the CUDA kernel has blocks in the shim, so that one takes several.
  const rows = 131;
  const logits = numbers(rows * 1280);
  const soft = tf.softmax(tf.tensor2d(logits, [rows, 1280])).dataSync();
  const want = Array.from({ length: rows }, (_, r) => {
    const row = [...logits.subarray(r * 1280, (r + 1) * 1280)].map((v) => Math.exp(v));
    const sum = row.reduce((a, b) => a + b, 0);
    return row.map((v) => v / sum);
  }).flat();
  requireClose('softmax', soft, want, { relative: 1e-6 });
  t.end();
});

t.test(
  'results do not depend on the number of threads',
  {
    skip: testEngine() !== 'equipoise-cpu' && 'a GPU has no threads to choose',
  },
  (t) => {
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
      const { stdout, stderr } = spawnSync(process.execPath, args, {
        cwd: fileURLToPath(new URL('.', import.meta.url)),
        env,
        encoding: 'utf8',
      });
      const line = stdout.trim().split('\n').at(-1) ?? '';
      if (!/^[0-9a-f]{64}$/.test(line)) throw new Error(`no digest: ${stdout}${stderr}`);
      return line;
    };
    t.equal(digest(3), digest(1));
    t.end();
  },
);
