/**
 * Products and convolutions from bf16 to bf16, the kind that devices have several kernels for, with every epilogue and at
 * ragged sizes; all outputs against sums in float64. Where EQUIPOISE_CUDA_TUNE names a way, every product must take it.
 */
import { type ConvWindow, FusedActivation, type Handle } from '@equipoise/native';
import { ACTIVATIONS64, bf16Values, difference, sizeOf, testEngine } from '@equipoise/testing';
import t, { type Test } from 'tap';
import { currentDevice, type EquipoiseBackend, useEngine } from '../index.js';
import { EPILOGUES64, product64 } from './testing/products.js';

await useEngine(testEngine());
const { native } = currentDevice() as EquipoiseBackend;
const way = process.env['EQUIPOISE_CUDA_TUNE'];

interface Matrix {
  shape: number[];
  values: Float32Array;
  handle: Handle;
}

/** Values in (-1, 1) that bf16 holds exactly. */
function matrix(shape: number[], seed: number): Matrix {
  const values = bf16Values(sizeOf(shape), seed);
  return { shape, values, handle: native.upload(values, 'f32', shape, 'bf16', false) };
}

const at = (v: ArrayLike<number>, i: number): number => v[i] as number;

/** Rounded once to bf16: at most 2^-9 of each value. */
function requireValues(t: Test, name: string, result: Handle, expected: Float64Array): void {
  const actual = native.readSync(result) as Float32Array;
  native.release(result);
  const { relativeNorm } = difference(actual, expected);
  t.ok(relativeNorm <= 2e-3, `${name}: error ${relativeNorm}`);
}

/** [m, k] times [k, n], or [n, k] if it is transposed. */
function product(a: Matrix, b: Matrix, transposeB: boolean): Float64Array {
  const [m, k] = a.shape as [number, number];
  const n = b.shape[transposeB ? 0 : 1] as number;
  return product64(a.values, b.values, { m, n, k, transposeB });
}

const [LEAK, SLOPE] = [0.25, -0.5];

/** Products so far that the way which was asked for could compute, and those that it could not. */
const forced = (): number[] =>
  String(native.describe()['forced'])
    .match(/\d+(?= products|$)/g)
    ?.map(Number) ?? [];

/** Runs `body` and requires that its products took the way that was asked for, but for `unable` of them. */
function takingTheWay(t: Test, able: number, unable: number, body: () => void): void {
  const before = forced();
  body();
  if (way)
    t.same(
      forced().map((count, i) => count - at(before, i)),
      [able, unable],
      `products that ${way} computed, and those it could not`,
    );
}

// Less than a stage, the end of a stage, and more stages than a ring has; tiles of 128 and 160 columns that end early.
const SIZES: [m: number, n: number, k: number][] = [
  [7, 8, 16],
  [128, 160, 64],
  [150, 328, 456],
  [300, 136, 840],
];
t.test('products', (t) => {
  takingTheWay(t, 2 * SIZES.length, 0, () => {
    for (const [m, n, k] of SIZES)
      for (const transposed of [false, true]) {
        const [a, b] = [matrix([m, k], 1), matrix(transposed ? [n, k] : [k, n], 2)];
        const c = native.ops.matMul(a.handle, b.handle, false, transposed, false);
        requireValues(t, `[${m},${k}] [${k},${n}] ${transposed}`, c, product(a, b, transposed));
        for (const { handle } of [a, b]) native.release(handle);
      }
  });
  t.end();
});

t.test('every activation, with a scale, a bias, an addend and slopes', (t) => {
  const [m, n, k] = [140, 200, 72];
  const [a, b, bias, addend] = [matrix([m, k], 3), matrix([k, n], 4), matrix([n], 5), matrix([m, n], 6)];
  const slope = native.upload(new Float32Array([SLOPE]), 'f32', [1], 'bf16', false);
  const sums = product(a, b, false);
  const kinds = Object.entries(EPILOGUES64);
  takingTheWay(t, kinds.length, 0, () => {
    for (const [kind, activation] of kinds) {
      const prelu = Number(kind) === FusedActivation.Prelu ? slope : null;
      const y = native.ops.fusedMatMul(
        a.handle,
        b.handle,
        false,
        false,
        bias.handle,
        Number(kind) as FusedActivation,
        LEAK,
        prelu,
        addend.handle,
        -2,
        0.5,
        false,
      );
      const expected = sums.map((sum, i) =>
        activation(0.5 * sum + at(bias.values, i % n) - 2 * at(addend.values, i), LEAK, SLOPE),
      );
      requireValues(t, FusedActivation[Number(kind)] as string, y, expected);
    }
  });
  t.end();
});

t.test('linear layers with a low-rank term and a scale per column', (t) => {
  const ranks = [4, 24, 72];
  takingTheWay(t, ranks.length, 0, () => {
    for (const rank of ranks) {
      const [m, n, k] = [200, 344, 136];
      const [x, weight, u, v] = [
        matrix([m, k], 7),
        matrix([n, k], 8),
        matrix([m, rank], 9),
        matrix([n, rank], 10),
      ];
      const [scale, bias, addend] = [matrix([n], 11), matrix([n], 12), matrix([m, n], 13)];
      const y = native.ops.linear(
        x.handle,
        weight.handle,
        bias.handle,
        FusedActivation.None,
        u.handle,
        v.handle,
        0.5,
        scale.handle,
        false,
        addend.handle,
      );
      const low = product(u, v, true);
      const expected = product(x, weight, true).map(
        (sum, i) =>
          at(scale.values, i % n) * (sum + 0.5 * at(low, i)) + at(bias.values, i % n) + at(addend.values, i),
      );
      requireValues(t, `rank ${rank}`, y, expected);
    }
  });
  t.end();
});

interface Convolution {
  name: string;
  image: [batch: number, height: number, width: number, channels: number];
  filter: [height: number, width: number, outputs: number];
  dilation: [number, number];
  before: [number, number];
  out: [number, number];
}
const CONVOLUTIONS: Convolution[] = [
  {
    name: '3 x 3 on 16 x 16',
    image: [1, 16, 16, 64],
    filter: [3, 3, 192],
    dilation: [1, 1],
    before: [1, 1],
    out: [16, 16],
  },
  {
    name: 'three images, two of them in a tile',
    image: [3, 8, 8, 128],
    filter: [3, 3, 64],
    dilation: [1, 1],
    before: [1, 1],
    out: [8, 8],
  },
  {
    name: '1 x 1 on rows longer than a tile',
    image: [1, 2, 256, 64],
    filter: [1, 1, 128],
    dilation: [1, 1],
    before: [0, 0],
    out: [2, 256],
  },
  {
    name: 'dilated, no padding',
    image: [2, 20, 18, 64],
    filter: [3, 2, 64],
    dilation: [2, 2],
    before: [0, 0],
    out: [16, 16],
  },
  {
    name: 'padding on one side',
    image: [1, 32, 32, 64],
    filter: [2, 3, 64],
    dilation: [1, 1],
    before: [1, 0],
    out: [32, 32],
  },
];

/** Calls visit(output pixel, input pixel, tap) wherever a tap lies inside the image. */
function eachTap(c: Convolution, visit: (to: number, from: number, tap: number) => void): void {
  const [batch, height, width] = c.image;
  const [rows, columns] = c.out;
  const inside = (h: number, w: number): boolean => h >= 0 && h < height && w >= 0 && w < width;
  for (let to = 0; to < batch * rows * columns; to++)
    for (let tap = 0; tap < c.filter[0] * c.filter[1]; tap++) {
      const [p, q] = [Math.floor(to / columns) % rows, to % columns];
      const h = p - c.before[0] + Math.floor(tap / c.filter[1]) * c.dilation[0];
      const w = q - c.before[1] + (tap % c.filter[1]) * c.dilation[1];
      if (inside(h, w)) visit(to, (Math.floor(to / columns / rows) * height + h) * width + w, tap);
    }
}

t.test('convolutions and their gradients of the image', (t) => {
  // 128 pixels of an image 18 wide are no box.
  takingTheWay(t, 2 * CONVOLUTIONS.length - 1, 1, () => {
    for (const c of CONVOLUTIONS) {
      const [channels, outputs] = [c.image[3], c.filter[2]];
      const window: ConvWindow = [1, 1, ...c.dilation, ...c.before, ...c.out];
      const x = matrix(c.image, 14);
      const filter = matrix([c.filter[0], c.filter[1], channels, outputs], 15);
      const [bias, dy] = [matrix([outputs], 16), matrix([c.image[0], ...c.out, outputs], 17)];
      const y = new Float64Array(sizeOf(dy.shape)).map(
        (_, i) => at(bias.values, i % outputs) + at(dy.values, i),
      );
      const dx = new Float64Array(sizeOf(c.image));
      eachTap(c, (to, from, tap) => {
        for (let i = 0; i < channels; i++)
          for (let o = 0; o < outputs; o++) {
            const f = at(filter.values, (tap * channels + i) * outputs + o);
            y[to * outputs + o] = at(y, to * outputs + o) + at(x.values, from * channels + i) * f;
            dx[from * channels + i] = at(dx, from * channels + i) + at(dy.values, to * outputs + o) * f;
          }
      });
      requireValues(
        t,
        `${c.name}: y`,
        native.ops.conv2d(
          x.handle,
          filter.handle,
          window,
          bias.handle,
          FusedActivation.Silu,
          0,
          null,
          false,
          dy.handle,
        ),
        y.map(ACTIVATIONS64.silu),
      );
      requireValues(
        t,
        `${c.name}: dx`,
        native.ops.conv2dGradInput(dy.handle, filter.handle, c.image, window),
        dx,
      );
    }
  });
  t.end();
});
