import { type ConvWindow, FusedActivation, type Handle, type Storage } from '@equipoise/native';
import { difference, sizeOf as size, testEngine, bf16Values as values } from '@equipoise/testing';
import * as tf from '@tensorflow/tfjs-core';
import t from 'tap';
import { conv2d, currentDevice, type EquipoiseBackend, useEngine } from '../index.js';

await useEngine(testEngine());
const { native } = currentDevice() as EquipoiseBackend;

const upload = (v: Float32Array, shape: number[], storage: Storage, frozen = false): Handle =>
  native.upload(v, 'f32', shape, storage, frozen);

type Shape4 = [number, number, number, number];
interface Case {
  x: Shape4;
  filter: Shape4;
  window: ConvWindow;
}

/** Calls visit(x index, filter index, y index) for every product of the convolution. */
function products({ x, filter, window }: Case, visit: (xi: number, fi: number, yi: number) => void): void {
  const [batch, height, width, channels] = x;
  const [rows, cols, , outputs] = filter;
  const [sh, sw, dh, dw, top, left, outHeight, outWidth] = window;
  for (let b = 0; b < batch; b++)
    for (let p = 0; p < outHeight; p++)
      for (let q = 0; q < outWidth; q++)
        for (let r = 0; r < rows; r++)
          for (let s = 0; s < cols; s++) {
            const [h, w] = [p * sh + r * dh - top, q * sw + s * dw - left];
            if (h < 0 || h >= height || w < 0 || w >= width) continue;
            const [xAt, fAt, yAt] = [
              ((b * height + h) * width + w) * channels,
              (r * cols + s) * channels,
              (b * outHeight + p) * outWidth + q,
            ];
            for (let i = 0; i < channels; i++)
              for (let o = 0; o < outputs; o++) visit(xAt + i, (fAt + i) * outputs + o, yAt * outputs + o);
          }
}

const CASES: Array<[string, Case]> = [
  ['one pixel', { x: [1, 1, 1, 1], filter: [1, 1, 1, 1], window: [1, 1, 1, 1, 0, 0, 1, 1] }],
  ['1x1', { x: [2, 5, 7, 33], filter: [1, 1, 33, 20], window: [1, 1, 1, 1, 0, 0, 5, 7] }],
  ['3x3 same', { x: [2, 9, 11, 16], filter: [3, 3, 16, 40], window: [1, 1, 1, 1, 1, 1, 9, 11] }],
  ['3x3 same, latent in', { x: [3, 8, 8, 4], filter: [3, 3, 4, 64], window: [1, 1, 1, 1, 1, 1, 8, 8] }],
  ['3x3 same, latent out', { x: [1, 16, 16, 64], filter: [3, 3, 64, 4], window: [1, 1, 1, 1, 1, 1, 16, 16] }],
  [
    '3x3 same, many pixels',
    { x: [5, 16, 16, 33], filter: [3, 3, 33, 31], window: [1, 1, 1, 1, 1, 1, 16, 16] },
  ],
  [
    '3x3 stride 2 pads below and right',
    { x: [2, 8, 8, 20], filter: [3, 3, 20, 24], window: [2, 2, 1, 1, 0, 0, 4, 4] },
  ],
  ['3x3 stride 2, odd', { x: [1, 9, 7, 5], filter: [3, 3, 5, 7], window: [2, 2, 1, 1, 1, 1, 5, 4] }],
  ['3x3 dilation 2', { x: [1, 10, 9, 6], filter: [3, 3, 6, 8], window: [1, 1, 2, 2, 2, 2, 10, 9] }],
  ['stride 3, dilation 2', { x: [1, 13, 12, 3], filter: [3, 2, 3, 9], window: [3, 3, 2, 2, 1, 2, 4, 5] }],
  [
    'stride 2, dilation 2 meets half the pixels',
    { x: [1, 8, 8, 3], filter: [3, 3, 3, 5], window: [2, 2, 2, 2, 2, 2, 4, 4] },
  ],
  [
    'stride longer than the filter',
    { x: [1, 9, 9, 2], filter: [1, 1, 2, 3], window: [4, 3, 1, 1, 0, 0, 3, 3] },
  ],
  ['patch embedding', { x: [2, 12, 12, 3], filter: [4, 4, 3, 50], window: [4, 4, 1, 1, 0, 0, 3, 3] }],
  ['all padding', { x: [1, 1, 1, 3], filter: [5, 5, 3, 4], window: [1, 1, 1, 1, 4, 4, 5, 5] }],
  ['uneven axes', { x: [1, 3, 20, 7], filter: [1, 5, 7, 33], window: [1, 2, 1, 1, 0, 2, 3, 10] }],
  ['empty batch', { x: [0, 4, 4, 3], filter: [3, 3, 3, 5], window: [1, 1, 1, 1, 1, 1, 4, 4] }],
];

const STORAGES: Array<[Storage, Storage]> = [
  ['f32', 'f32'],
  ['bf16', 'bf16'],
  ['bf16', 'f32'],
  ['f32', 'bf16'],
];

for (const [name, testCase] of CASES) {
  t.test(`${name}: forward and both gradients against float64`, (t) => {
    const { x: xShape, filter: fShape, window } = testCase;
    const yShape: Shape4 = [xShape[0], window[6], window[7], fShape[3]];
    const [x, f, dy] = [values(size(xShape), 1), values(size(fShape), 2), values(size(yShape), 3)];
    const [y, dx, df] = [
      new Float64Array(size(yShape)),
      new Float64Array(size(xShape)),
      new Float64Array(size(fShape)),
    ];
    products(testCase, (xi, fi, yi) => {
      y[yi]! += (x[xi] as number) * (f[fi] as number);
      dx[xi]! += (dy[yi] as number) * (f[fi] as number);
      df[fi]! += (x[xi] as number) * (dy[yi] as number);
    });
    for (const [a, b] of STORAGES) {
      const stored = a === 'bf16' || b === 'bf16' ? 'bf16' : 'f32';
      const limit = stored === 'bf16' ? 4e-3 : 1e-6;
      for (const frozen of [false, true]) {
        const filter = upload(f, fShape, b, frozen);
        const [hx, hdy] = [upload(x, xShape, a), upload(dy, yShape, a)];
        // Twice: the second use of a frozen filter finds its packed form.
        for (let use = 0; use < (frozen ? 2 : 1); use++) {
          const out = native.ops.conv2d(hx, filter, window, null, FusedActivation.None, 0, null, false, null);
          t.same(native.info(out), {
            storage: stored,
            shape: yShape,
            bytes: size(yShape) * (stored === 'f32' ? 4 : 2),
            frozen: false,
          });
          const error = difference(native.readSync(out), y).relativeNorm;
          t.ok(error <= limit, `y, ${a} x ${b}, frozen ${frozen}: error ${error}`);
          const gradient = native.ops.conv2dGradInput(hdy, filter, xShape, window);
          const dxError = difference(native.readSync(gradient), dx).relativeNorm;
          t.ok(dxError <= limit, `dx, ${a} x ${b}, frozen ${frozen}: error ${dxError}`);
        }
      }
      const gradient = native.ops.conv2dGradFilter(
        upload(x, xShape, a),
        upload(dy, yShape, b),
        fShape,
        window,
      );
      t.equal(native.info(gradient).storage, 'f32');
      const error = difference(native.readSync(gradient), df).relativeNorm;
      t.ok(error <= 1e-6, `df, ${a} x ${b}: error ${error}`);
    }
    t.end();
  });
}

t.test('bias and activation', (t) => {
  const testCase: Case = { x: [1, 6, 6, 8], filter: [3, 3, 8, 21], window: [1, 1, 1, 1, 1, 1, 6, 6] };
  const [x, f, bias] = [values(size(testCase.x), 7), values(size(testCase.filter), 8), values(21, 9)];
  const y = new Float64Array(6 * 6 * 21).map((_, i) => bias[i % 21] as number);
  products(testCase, (xi, fi, yi) => {
    y[yi]! += (x[xi] as number) * (f[fi] as number);
  });
  const args = [
    upload(x, testCase.x, 'f32'),
    upload(f, testCase.filter, 'f32'),
    testCase.window,
    upload(bias, [21], 'f32'),
  ] as const;
  const run = (activation: FusedActivation): Float32Array =>
    native.readSync(native.ops.conv2d(...args, activation, 0.1, null, false, null)) as Float32Array;
  t.ok(
    difference(
      run(FusedActivation.Silu),
      y.map((v) => v / (1 + Math.exp(-v))),
    ).relativeNorm <= 1e-6,
  );
  t.ok(
    difference(
      run(FusedActivation.LeakyRelu),
      y.map((v) => (v < 0 ? 0.1 * v : v)),
    ).relativeNorm <= 1e-6,
  );
  t.end();
});

t.test('the fused convolution and its gradients agree with the cpu backend', async (t) => {
  const { grads } = tf;
  const compute = (): Float32Array[] =>
    tf.tidy(() => {
      const x = tf.tensor(values(2 * 9 * 8 * 6, 1), [2, 9, 8, 6]);
      const filter = tf.tensor(values(3 * 3 * 6 * 10, 2), [3, 3, 6, 10]);
      const bias = tf.tensor(values(10, 3), [10]);
      const layer = (a: tf.Tensor, f: tf.Tensor, b: tf.Tensor) =>
        conv2d(a, f, b, {
          stride: 2,
          dilation: 2,
          pad: [
            [1, 2],
            [3, 0],
          ],
          activation: 'silu',
        });
      const y = layer(x, filter, bias);
      const dy = tf.tensor(values(y.size, 4), y.shape);
      return [
        y,
        ...grads((a, f, b) => layer(a as tf.Tensor, f as tf.Tensor, b as tf.Tensor))([x, filter, bias], dy),
      ].map((v) => v.dataSync() as Float32Array);
    });
  const ours = compute();
  await useEngine('cpu');
  const theirs = compute();
  await useEngine(testEngine());
  for (const [i, name] of ['y', 'dx', 'dfilter', 'dbias'].entries()) {
    const error = difference(ours[i] as Float32Array, theirs[i] as Float32Array).relativeNorm;
    t.ok(error <= 1e-5, `${name}: error ${error}`);
  }
});

t.test('wrong operands are refused', (t) => {
  const f32 = (shape: number[]): Handle => upload(new Float32Array(size(shape)), shape, 'f32');
  const run = (x: Handle, filter: Handle, window: ConvWindow): unknown =>
    native.ops.conv2d(x, filter, window, null, FusedActivation.None, 0, null, false, null);
  const window: ConvWindow = [1, 1, 1, 1, 1, 1, 4, 4];
  t.throws(() => run(f32([1, 4, 4, 3]), f32([3, 3, 2, 5]), window), {
    name: 'RangeError',
    message: /x has 3 channels, the filter takes 2/,
  });
  t.throws(() => run(f32([4, 4, 3]), f32([3, 3, 3, 5]), window), {
    name: 'TypeError',
    message: /x must have rank 4/,
  });
  t.throws(() => run(f32([1, 4, 4, 3]), f32([3, 3, 3, 5]), [0, 1, 1, 1, 1, 1, 4, 4]), {
    name: 'RangeError',
    message: /strideHeight must be in 1/,
  });
  t.throws(() => run(f32([1, 4, 4, 3]), f32([3, 3, 3, 5]), [1, 1, 1, 1, 1, 1, 2 ** 32, 4]), {
    name: 'RangeError',
    message: /outHeight must be/,
  });
  t.throws(() => native.ops.conv2dGradInput(f32([1, 4, 4, 5]), f32([3, 3, 3, 5]), [2, 4, 4, 3], window), {
    name: 'RangeError',
    message: /dy must have shape \[2,4,4,5\]/,
  });
  t.throws(() => native.ops.conv2dGradFilter(f32([1, 4, 4, 3]), f32([1, 4, 4, 5]), [3, 3, 3, 6], window), {
    name: 'RangeError',
    message: /dy must have shape/,
  });
  t.end();
});
