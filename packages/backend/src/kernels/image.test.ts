/** Resizing and pooling against TensorFlow.js's own `cpu` engine, at awkward sizes and in both storages. */
import { requireClose, testEngine } from '@equipoise/testing';
import * as tf from '@tensorflow/tfjs-core';
import t from 'tap';
import { useEngine } from '../index.js';
import { type Case, compare, tensor } from './testing/plain-engine.js';

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
