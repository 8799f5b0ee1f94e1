/** Movement and indexing kernels against TensorFlow.js's own `cpu` engine, at awkward sizes and in both storages. */
import { testEngine } from '@equipoise/testing';
import * as tf from '@tensorflow/tfjs-core';
import t from 'tap';
import { currentDevice, type EquipoiseBackend } from '../index.js';
import { type Case, compare, ints, tensor } from './testing/plain-engine.js';

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
