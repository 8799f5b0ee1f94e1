/**
 * Movement, indexing and image kernels against TensorFlow.js's own `cpu` engine, at awkward sizes and in both storages.
 */
import { requireClose, testEngine } from '@equipoise/testing';
import * as tf from '@tensorflow/tfjs-core';
import t from 'tap';
import { currentDevice, type EquipoiseBackend, toStorage, useEngine } from '../index.js';
import { numbers, storageOf } from './test-inputs.js';

const tensor = (shape: number[], seed = 1): tf.Tensor =>
  tf.tensor(numbers(tf.util.sizeFromShape(shape), seed), shape);
const ints = (shape: number[], below: number, seed = 7): tf.Tensor =>
  tf.tensor(
    Int32Array.from(numbers(tf.util.sizeFromShape(shape), seed), (x) => Math.abs(Math.round(x * 16)) % below),
    shape,
    'int32',
  );
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
    return {
      outcome: ys.map((y) => ({ shape: y.shape, dtype: y.dtype, values: [...y.dataSync()] })),
      storages,
    };
  });

/** Runs the cases on TensorFlow.js's engine, then on ours in f32 and bf16, and compares. */
async function compare(t: Tap.Test, cases: Case[]): Promise<void> {
  await useEngine('cpu');
  const expected = cases.map((c) => results(c).outcome);
  await useEngine(testEngine());
  cases.forEach((c, i) => {
    const check = (got: Outcome, storage: string, tolerance: number) => {
      const want = expected[i] as Outcome;
      if (got.length !== want.length)
        t.fail(`${c.name} ${storage}: ${got.length} results instead of ${want.length}`);
      want.forEach((y, k) => {
        const label = `${c.name} ${storage} result ${k}`;
        const actual = got[k] as Outcome[number];
        if (String(actual.shape) !== String(y.shape) || actual.dtype !== y.dtype)
          t.fail(`${label}: ${actual.dtype} [${actual.shape}] instead of ${y.dtype} [${y.shape}]`);
        else if (tolerance > 0) requireClose(label, actual.values, y.values, { relativeNorm: tolerance });
        else if (actual.values.some((v, j) => v !== y.values[j]))
          t.fail(`${label}: ${actual.values.slice(0, 20)} instead of ${y.values.slice(0, 20)}`);
      });
    };
    check(results(c).outcome, 'f32', c.tolerance ?? 0);
    if (c.f32Only) return;
    const narrow = results(c, 'bf16');
    check(narrow.outcome, 'bf16', c.keepsStorage && c.tolerance ? 5e-3 : (c.tolerance ?? 0));
    const want = c.keepsStorage ? 'bf16' : 'f32';
    if (narrow.storages.some((s) => s !== want))
      t.fail(`${c.name}: stored as ${narrow.storages}, expected ${want}`);
  });
  t.pass(`${cases.length} cases in two storages`);
}

declare namespace Tap {
  type Test = Pick<typeof t, 'fail' | 'pass'>;
}

const move = (name: string, run: (x: tf.Tensor) => tf.Tensor | tf.Tensor[], ...shape: number[]): Case => ({
  name: `${name} [${shape}]`,
  run: ([x]) => run(x as tf.Tensor),
  inputs: () => [tensor(shape)],
  keepsStorage: true,
});

/** All orders of 0..n-1. */
const permutations = (n: number): number[][] =>
  n === 0
    ? [[]]
    : permutations(n - 1).flatMap((rest) => Array.from({ length: n }, (_, i) => rest.toSpliced(i, 0, n - 1)));

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
    move(
      'pad',
      (x) =>
        tf.pad(
          x,
          [
            [1, 0],
            [0, 2],
            [3, 3],
          ],
          1.5,
        ),
      3,
      4,
      5,
    ),
    move(
      'pad empty',
      (x) =>
        tf.pad(
          x,
          [
            [1, 0],
            [0, 2],
          ],
          2,
        ),
      0,
      4,
    ),
    move(
      'mirrorPad reflect',
      (x) =>
        tf.mirrorPad(
          x,
          [
            [2, 1],
            [0, 3],
          ],
          'reflect',
        ),
      4,
      5,
    ),
    move(
      'mirrorPad symmetric',
      (x) =>
        tf.mirrorPad(
          x,
          [
            [4, 1],
            [0, 5],
          ],
          'symmetric',
        ),
      4,
      5,
    ),
    move('depthToSpace', (x) => tf.depthToSpace(x as tf.Tensor4D, 2), 2, 3, 5, 12),
    move(
      'spaceToBatchND',
      (x) =>
        tf.spaceToBatchND(
          x,
          [2, 3],
          [
            [1, 0],
            [2, 2],
          ],
        ),
      2,
      5,
      5,
      3,
    ),
    move(
      'batchToSpaceND',
      (x) =>
        tf.batchToSpaceND(
          x,
          [2, 3],
          [
            [1, 0],
            [2, 1],
          ],
        ),
      12,
      3,
      2,
      3,
    ),
    move('diag', (x) => tf.diag(x), 3, 2),
    {
      name: 'concat',
      run: (xs) => tf.concat(xs, 1),
      inputs: () => [tensor([3, 2, 5]), tensor([3, 0, 5]), tensor([3, 7, 5], 2)],
      keepsStorage: true,
    },
    {
      name: 'stack',
      run: (xs) => tf.stack(xs, 1),
      inputs: () => [tensor([3, 5]), tensor([3, 5], 2), tensor([3, 5], 3)],
      keepsStorage: true,
    },
  ]);
});

const pooled = (
  name: string,
  shape: [number, number, number, number],
  run: (x: tf.Tensor4D) => tf.Tensor,
  tolerance: number,
): Case => ({
  name: `${name} [${shape}]`,
  run: ([x]) => run(x as tf.Tensor4D),
  inputs: () => [tensor(shape)],
  tolerance,
  keepsStorage: true,
});
const gradient =
  (f: (x: tf.Tensor4D) => tf.Tensor) =>
  (x: tf.Tensor4D): tf.Tensor =>
    tf.grad((v: tf.Tensor) => tf.sum(tf.square(f(v as tf.Tensor4D))))(x);

const SIZES: Array<[image: [number, number, number, number], size: [number, number]]> = [
  [
    [1, 5, 7, 3],
    [10, 14],
  ],
  [
    [2, 8, 6, 17],
    [3, 9],
  ],
  [
    [1, 1, 1, 4],
    [3, 2],
  ],
  [
    [1, 4, 4, 300],
    [8, 8],
  ],
];
const FLAGS = [
  [false, false],
  [true, false],
  [false, true],
] as const;

t.test('resizing', async (t) => {
  await compare(
    t,
    SIZES.flatMap(([shape, size]) =>
      FLAGS.flatMap(([corners, half]) => [
        pooled(
          `bilinear ${size} ${corners} ${half}`,
          shape,
          (x) => tf.image.resizeBilinear(x, size, corners, half),
          1e-6,
        ),
        pooled(
          `nearest ${size} ${corners} ${half}`,
          shape,
          (x) => tf.image.resizeNearestNeighbor(x, size, corners, half),
          0,
        ),
      ]),
    ),
  );
});

t.test('gradients of resizing are its adjoint: <resize(x), dy> = <x, resize*(dy)>', async (t) => {
  await useEngine(testEngine());
  for (const resize of [tf.image.resizeBilinear, tf.image.resizeNearestNeighbor]) {
    for (const [shape, size] of SIZES) {
      for (const [corners, half] of FLAGS) {
        tf.tidy(() => {
          const x = tensor(shape) as tf.Tensor4D;
          const dy = tensor([shape[0], ...size, shape[3]], 5) as tf.Tensor4D;
          const product = (v: tf.Tensor): tf.Scalar =>
            tf.sum(tf.mul(resize(v as tf.Tensor4D, size, corners, half), dy));
          const forward = product(x).dataSync()[0] as number;
          const backward = tf.sum(tf.mul(tf.grad(product)(x), x)).dataSync();
          requireClose(`${resize.name} [${shape}] ${size} ${corners} ${half}`, backward, [forward], {
            relative: 1e-5,
            absolute: 2e-2,
          });
        });
      }
    }
  }
  t.pass();
});

t.test('pooling', async (t) => {
  const windows = [
    [2, 2, 'valid'],
    [3, 2, 'same'],
    [3, 1, 'same'],
    [5, 3, 'valid'],
    [1, 2, 'valid'],
  ] as const;
  const shapes: Array<[number, number, number, number]> = [
    [2, 9, 7, 5],
    [1, 6, 8, 259],
  ];
  const cases = windows.flatMap(([filter, stride, pad]) =>
    shapes.flatMap((shape) => {
      const max = (x: tf.Tensor4D) => tf.maxPool(x, filter, stride, pad);
      const average = (x: tf.Tensor4D) => tf.avgPool(x, filter, stride, pad);
      const name = `${filter} ${stride} ${pad}`;
      return [
        pooled(`max ${name}`, shape, max, 0),
        pooled(`average ${name}`, shape, average, 1e-6),
        { ...pooled(`max gradient ${name}`, shape, gradient(max), 1e-6), f32Only: true },
        { ...pooled(`average gradient ${name}`, shape, gradient(average), 1e-6), f32Only: true },
      ];
    }),
  );
  await compare(t, cases);
});

t.test('indexing', async (t) => {
  await compare(t, [
    {
      name: 'gather rows',
      run: ([x, i]) => tf.gather(x as tf.Tensor, i as tf.Tensor1D),
      inputs: () => [tensor([50, 33]), ints([3, 77], 50)],
      keepsStorage: true,
    },
    {
      name: 'gather columns',
      run: ([x, i]) => tf.gather(x as tf.Tensor, i as tf.Tensor1D, 2),
      inputs: () => [tensor([3, 5, 9]), ints([20], 9)],
      keepsStorage: true,
    },
    {
      name: 'gather in batches',
      run: ([x, i]) => tf.gather(x as tf.Tensor, i as tf.Tensor1D, 2, 1),
      inputs: () => [tensor([3, 5, 9, 2]), ints([3, 4], 9)],
      keepsStorage: true,
    },
    {
      name: 'gather nothing',
      run: ([x, i]) => tf.gather(x as tf.Tensor, i as tf.Tensor1D),
      inputs: () => [tensor([5, 3]), ints([0], 5)],
      keepsStorage: true,
    },
    {
      name: 'gatherND',
      run: ([x, i]) => tf.gatherND(x as tf.Tensor, i as tf.Tensor),
      inputs: () => [tensor([4, 5, 7]), ints([30, 2], 4)],
      keepsStorage: true,
    },
    {
      name: 'scatterND',
      run: ([i, u]) => tf.scatterND(i as tf.Tensor, u as tf.Tensor, [6, 5, 3]),
      inputs: () => [ints([40, 2], 5), tensor([40, 3])],
      keepsStorage: true,
      tolerance: 1e-6,
    },
    {
      name: 'segment sum',
      run: ([x, s]) => tf.unsortedSegmentSum(x as tf.Tensor, s as tf.Tensor1D, 7),
      inputs: () => [tensor([500, 130]), ints([500], 9)],
      tolerance: 1e-6,
    },
    {
      name: 'oneHot',
      run: ([i]) => tf.oneHot(i as tf.Tensor, 6, 2, -1, 'float32'),
      inputs: () => [ints([4, 5], 8)],
    },
    {
      name: 'topk',
      run: ([x]) => {
        const { values, indices } = tf.topk(x as tf.Tensor, 9);
        return [values, indices];
      },
      inputs: () => [tensor([13, 257])],
      keepsStorage: true,
    },
    {
      name: 'bincount',
      run: ([i, w]) => tf.bincount(i as tf.Tensor1D, w as tf.Tensor1D, 6),
      inputs: () => [ints([300], 9), tensor([300])],
      tolerance: 1e-6,
    },
    ...[
      'bij,bjk->bik',
      'ij,jk->ki',
      'bij,bij->b',
      'ij,j->i',
      'ij,kl->ikjl',
      'ij,ij->ij',
      'bhid,bhjd->hbij',
    ].map((equation): Case => {
      const sizes: Record<string, number> = { b: 3, h: 2, i: 5, j: 7, k: 4, l: 2, d: 9 };
      const shapes =
        equation
          .split('->')[0]
          ?.split(',')
          .map((term) => [...term].map((label) => sizes[label] as number)) ?? [];
      return {
        name: equation,
        run: (xs) => tf.einsum(equation, ...xs),
        inputs: () => shapes.map((shape, i) => tensor(shape, i + 1)),
        tolerance: 1e-6,
        f32Only: true,
      };
    }),
  ]);
  const device = currentDevice() as EquipoiseBackend;
  t.throws(() => tf.gather(tensor([3, 2]), [3]), {
    name: 'RangeError',
    message: /GatherV2: the index value 3 is not in \[0, 2\]/,
  });
  // An index computed on the device is found there; the fault comes with the next read, once.
  const computed = tf.add(tf.tensor1d([1], 'int32'), tf.scalar(4, 'int32'));
  const y = tf.gather(tensor([3, 2]), computed as tf.Tensor1D);
  await t.rejects(y.data(), { message: /GatherV2 \[3,2\] x \[1\]: index 5 is outside 0\.\.2/ });
  t.same([...(await tf.scalar(1).data())], [1]);
  t.equal(`equipoise-${device.kind}`, testEngine());
});
