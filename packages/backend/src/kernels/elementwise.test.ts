import { BINARY_OPS, type BinaryOp, UNARY_OPS, type UnaryOp } from '@equipoise/native';
import { erf64, LENGTHS, randomWords, testEngine, ulpDistance } from '@equipoise/testing';
import * as tf from '@tensorflow/tfjs-core';
import t from 'tap';
import { currentDevice, type EquipoiseBackend, useEngine } from '../index.js';
import { bf16, upload } from './testing/inputs.js';

await useEngine(testEngine());
const { native } = currentDevice() as EquipoiseBackend;

/** Reproducible numbers in [0, 1). */
function random(seed: number): () => number {
  const next = randomWords(seed);
  return () => next() / 2 ** 32;
}

/** All signs and magnitudes: a few thousand numbers from subnormal to almost infinite, and the ordinary range densely. */
const MAGNITUDES = (() => {
  const next = random(1);
  const values = [
    0, -0, 1, -1, 0.5, -0.5, 1.5, 2.5, -2.5, 3.5, 1e-45, -1e-45, 1.17549435e-38, 3.4028234e38, -3.4028234e38,
  ];
  for (let e = -149; e < 128; e++) values.push((1 + next()) * 2 ** e, -(1 + next()) * 2 ** e);
  for (let i = 0; i < 6000; i++) values.push((next() - 0.5) * 10, (next() - 0.5) * 2, (next() - 0.5) * 200);
  return Float32Array.from(values);
})();
const SPECIALS = Float32Array.of(Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY);

const SELU_SCALE = 1.0507009873554805;
const SELU_ALPHA = 1.6732632423543772;
const ties = (x: number): number => {
  const r = Math.round(x);
  return Math.abs(x - Math.trunc(x)) === 0.5 && r % 2 !== 0 ? r - 1 : r;
};
/** Each function in float64, and how many units in the last place its float32 result may be off. */
const UNARY: Record<UnaryOp, [reference: (x: number) => number, ulps: number]> = {
  abs: [Math.abs, 0],
  neg: [(x) => -x, 0],
  square: [(x) => x * x, 0],
  sign: [(x) => (x > 0 ? 1 : x < 0 ? -1 : 0), 0],
  floor: [Math.floor, 0],
  ceil: [Math.ceil, 0],
  round: [ties, 0],
  relu: [(x) => (x < 0 ? 0 : x), 0],
  relu6: [(x) => (x < 0 ? 0 : x > 6 ? 6 : x), 0],
  step: [(x) => (Number.isNaN(x) ? x : x > 0 ? 1 : 0.25), 0],
  exp: [Math.exp, 2],
  expm1: [Math.expm1, 2],
  log: [Math.log, 2],
  log1p: [Math.log1p, 3],
  sqrt: [Math.sqrt, 0],
  rsqrt: [(x) => 1 / Math.sqrt(x), 2],
  reciprocal: [(x) => 1 / x, 0],
  sin: [Math.sin, 2],
  cos: [Math.cos, 2],
  tan: [Math.tan, 1],
  asin: [Math.asin, 2],
  acos: [Math.acos, 2],
  atan: [Math.atan, 2],
  sinh: [Math.sinh, 3],
  cosh: [Math.cosh, 2],
  asinh: [Math.asinh, 3],
  acosh: [Math.acosh, 3],
  atanh: [Math.atanh, 3],
  tanh: [Math.tanh, 3],
  erf: [erf64, 3],
  sigmoid: [(x) => (x < 0 ? Math.exp(x) / (1 + Math.exp(x)) : 1 / (1 + Math.exp(-x))), 4],
  elu: [(x) => (x < 0 ? Math.expm1(x) : x), 2],
  selu: [(x) => SELU_SCALE * (x < 0 ? SELU_ALPHA * Math.expm1(x) : x), 4],
  softplus: [(x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x))), 4],
  leakyRelu: [(x) => (x < 0 ? 0.25 * x : x), 0],
  isNan: [(x) => Number(Number.isNaN(x)), 0],
  isInf: [(x) => Number(Math.abs(x) === Number.POSITIVE_INFINITY), 0],
  isFinite: [(x) => Number(Number.isFinite(x)), 0],
  logicalNot: [(x) => Number(x === 0), 0],
};

/** The first place where `actual` is further than `ulps` from float32(expected); NaN must be NaN, infinity infinity. */
function firstOff(
  actual: ArrayLike<number>,
  expected: (i: number) => number,
  count: number,
  ulps: number,
): string | undefined {
  if (actual.length !== count) return `${actual.length} elements instead of ${count}`;
  for (let i = 0; i < count; i++) {
    const [a, e] = [actual[i] as number, Math.fround(expected(i))];
    const near =
      Number.isNaN(e) || !Number.isFinite(e)
        ? Object.is(a, e) || ulpDistance(a, e) <= ulps
        : ulpDistance(a, e) <= ulps;
    if (!near || Number.isNaN(a) !== Number.isNaN(e)) return `[${i}]: ${a} instead of ${e}`;
  }
  return undefined;
}

t.test('functions of one tensor against float64', (t) => {
  const x = Float32Array.of(...MAGNITUDES, ...SPECIALS);
  for (const op of Object.keys(UNARY_OPS) as UnaryOp[]) {
    const [f, ulps] = UNARY[op];
    const actual = native.readSync(native.ops[op](upload(x, [x.length], 'f32'), 0.25));
    t.equal(
      firstOff(actual, (i) => f(x[i] as number), x.length, ulps),
      undefined,
      op,
    );
  }
  t.end();
});

t.test('bf16 storage rounds the float32 result once, and stays bf16', (t) => {
  const x = Float32Array.from(MAGNITUDES, bf16);
  for (const op of Object.keys(UNARY_OPS) as UnaryOp[]) {
    const wide = native.readSync(native.ops[op](upload(x, [x.length], 'f32'), 0.25));
    const y = native.ops[op](upload(x, [x.length], 'bf16'), 0.25);
    const { storage } = native.info(y);
    const expected = storage === 'bool' ? wide : native.readSync(upload(wide, [x.length], 'bf16'));
    t.equal(
      firstOff(native.readSync(y), (i) => expected[i] as number, x.length, 0),
      undefined,
      op,
    );
    t.equal(storage, UNARY_OPS[op] === 'test' ? 'bool' : 'bf16', op);
  }
  t.end();
});

t.test('every length, and more than a million elements: each value depends on its element alone', (t) => {
  const next = random(2);
  for (const n of [...LENGTHS, 1024, 1025, 2047, 1_300_001]) {
    const x = Float32Array.from({ length: n }, () => (next() - 0.5) * 20);
    for (const op of ['exp', 'erf', 'square'] as const) {
      for (const storage of ['f32', 'bf16'] as const) {
        const y = native.readSync(native.ops[op](upload(x, [n], storage)));
        const padded = native.readSync(
          native.ops[op](upload(Float32Array.of(7, ...x.slice(0, 3000)), [Math.min(n, 3000) + 1], storage)),
        );
        const differs = y.slice(0, 3000).findIndex((value, i) => !Object.is(value, padded[i + 1]));
        if (y.length !== n || differs >= 0) t.fail(`${op} ${storage} ${n} at ${differs}`);
        const last = n === 0 ? 0 : (y[n - 1] as number);
        const at =
          n === 0 ? 0 : UNARY[op][0](storage === 'bf16' ? bf16(x[n - 1] as number) : (x[n - 1] as number));
        if (Math.abs(last - at) > 1e-2 * Math.abs(at))
          t.fail(`${op} ${storage} ${n}: ${last} instead of ${at}`);
      }
    }
  }
  t.end();
});

const floorMod = (a: number, b: number): number =>
  (a < 0 && b < 0) || (a >= 0 && b >= 0) ? a % b : ((a % b) + b) % b;
const propagate = (pick: (a: number, b: number) => number) => (a: number, b: number) =>
  Number.isNaN(a) || Number.isNaN(b) ? Number.NaN : pick(a, b);
const bit = (f: (a: number, b: number) => boolean) => (a: number, b: number) => Number(f(a, b));
const BINARY: Record<BinaryOp, [reference: (a: number, b: number) => number, ulps: number]> = {
  add: [(a, b) => a + b, 0],
  sub: [(a, b) => a - b, 0],
  multiply: [(a, b) => a * b, 0],
  realDiv: [(a, b) => a / b, 0],
  floorDiv: [(a, b) => Math.floor(Math.fround(a / b)), 0],
  mod: [(a, b) => floorMod(a, b), 1],
  pow: [(a, b) => a ** b, 2],
  maximum: [propagate(Math.max), 0],
  minimum: [propagate(Math.min), 0],
  squaredDifference: [(a, b) => Math.fround(a - b) ** 2, 0],
  atan2: [Math.atan2, 2],
  prelu: [(a, b) => (a < 0 ? a * b : a), 0],
  eluGrad: [(a, b) => (b < 0 ? a * Math.fround(b + 1) : a), 0],
  equal: [bit((a, b) => a === b), 0],
  notEqual: [bit((a, b) => a !== b), 0],
  less: [bit((a, b) => a < b), 0],
  lessEqual: [bit((a, b) => a <= b), 0],
  greater: [bit((a, b) => a > b), 0],
  greaterEqual: [bit((a, b) => a >= b), 0],
  logicalAnd: [bit((a, b) => a !== 0 && b !== 0), 0],
  logicalOr: [bit((a, b) => a !== 0 || b !== 0), 0],
};

/** Pairs of shapes: equal, scalar, row and column broadcasts, both ways at once, rank 6, empty, longer than a block. */
const PAIRS: Array<[number[], number[]]> = [
  [[], []],
  [[0], [1]],
  [[0, 3], [3]],
  [[7], []],
  [[], [5, 3]],
  [[17, 3], [3]],
  [[1000, 3], [3]],
  [[4, 255], [255]],
  [[5, 256], [256]],
  [[3, 257], [257]],
  [[2, 2500], [2500]],
  [
    [1030, 1],
    [1, 5],
  ],
  [
    [6, 1],
    [6, 700],
  ],
  [
    [2, 3, 4],
    [2, 1, 4],
  ],
  [
    [3, 1, 2],
    [1, 5, 1],
  ],
  [
    [2, 1, 3, 1, 2, 5],
    [1, 4, 1, 2, 2, 1],
  ],
  [
    [2, 3, 2, 1, 2, 3],
    [2, 3, 2, 1, 2, 3],
  ],
  [[1], [4097]],
  [
    [2, 1500],
    [2, 1],
  ],
];

/** Which element of `shape` an element of the broadcast shape reads. */
function source(index: number, out: readonly number[], shape: readonly number[]): number {
  let [at, step] = [0, 1];
  for (let d = out.length - 1, rest = index; d >= 0; d--) {
    const size = shape[d - (out.length - shape.length)];
    if (size !== undefined) {
      at += size === 1 ? 0 : (rest % (out[d] as number)) * step;
      step *= size;
    }
    rest = Math.floor(rest / (out[d] as number));
  }
  return at;
}

t.test('functions of two tensors, broadcast, against float64', (t) => {
  const next = random(3);
  for (const op of Object.keys(BINARY_OPS) as BinaryOp[]) {
    const [f, ulps] = BINARY[op];
    for (const [sa, sb] of PAIRS) {
      const shape = tf.broadcast_util.assertAndGetBroadcastShape(sa, sb);
      // Quarters keep equality common; pow needs a positive base for any exponent.
      const make = (s: number[], low: number) =>
        Float32Array.from({ length: tf.util.sizeFromShape(s) }, () => Math.floor(next() * 32) / 4 + low);
      const [a, b] = [make(sa, op === 'pow' ? 0.25 : -4), make(sb, -3.75)];
      const actual = native.readSync(native.ops[op](upload(a, sa, 'f32'), upload(b, sb, 'f32')));
      const reference = (i: number) =>
        f(a[source(i, shape, sa)] as number, b[source(i, shape, sb)] as number);
      const off = firstOff(actual, reference, tf.util.sizeFromShape(shape), ulps);
      if (off) t.fail(`${op} [${sa}] [${sb}] ${off}`);
      const narrow = native.ops[op](upload(a, sa, 'bf16'), upload(b, sb, 'bf16'));
      const wide = native.readSync(narrow);
      const rounded =
        native.info(narrow).storage === 'bf16' ? native.readSync(upload(actual, shape, 'bf16')) : actual;
      const offNarrow = firstOff(wide, (i) => rounded[i] as number, rounded.length, 0);
      if (offNarrow) t.fail(`${op} bf16 [${sa}] [${sb}] ${offNarrow}`);
    }
  }
  t.end();
});

t.test('NaN and infinities in functions of two tensors', (t) => {
  const values = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 0, 1, -2.5];
  const a = values.flatMap((value) => values.map(() => value));
  const b = values.flatMap(() => values);
  for (const op of Object.keys(BINARY_OPS) as BinaryOp[]) {
    if (op === 'floorDiv') continue; // defined by the quotient's floor, which `functions of two tensors` covers
    const actual = native.readSync(native.ops[op](upload(a, [36], 'f32'), upload(b, [36], 'f32')));
    const off = firstOff(actual, (i) => BINARY[op][0](a[i] as number, b[i] as number), 36, BINARY[op][1]);
    // C and JavaScript differ in pow(1, NaN) and pow(1, infinity) alone.
    if (op === 'pow') t.match(off, /^\[24\]: 1 instead of NaN$/, 'pow(1, NaN) is 1 as in IEEE 754');
    else t.equal(off, undefined, op);
  }
  t.end();
});

t.test('int32 arithmetic is that of an Int32Array', (t) => {
  const values = [0, 1, -1, 2, -2, 3, -3, 7, -8, 100, 46341, 2 ** 31 - 1, -(2 ** 31)];
  const a = values.flatMap((value) => values.map(() => value));
  const b = values.flatMap(() => values);
  const exact: Partial<Record<BinaryOp, (a: number, b: number) => number>> = {
    add: (x, y) => x + y,
    sub: (x, y) => x - y,
    multiply: Math.imul,
    realDiv: (x, y) => x / y,
    floorDiv: (x, y) => Math.floor(x / y),
    mod: floorMod,
    pow: (x, y) => x ** y,
    maximum: Math.max,
    minimum: Math.min,
    squaredDifference: (x, y) => Math.imul((x - y) | 0, (x - y) | 0),
  };
  for (const [op, f] of Object.entries(exact) as Array<[BinaryOp, (a: number, b: number) => number]>) {
    const y = native.ops[op](upload(a, [a.length], 'i32'), upload(b, [b.length], 'i32'));
    t.equal(native.info(y).storage, 'i32', op);
    t.same([...native.readSync(y)], [...Int32Array.from(a, (x, i) => f(x, b[i] as number))], op);
  }
  t.same(
    [...native.readSync(native.ops.abs(upload(values, [13], 'i32')))],
    [...Int32Array.from(values, Math.abs)],
  );
  t.end();
});

t.test('select and clip', (t) => {
  const condition = upload([1, 0, 1], [3, 1], 'bool');
  const y = native.ops.select(
    condition,
    upload([1, 2], [2], 'f32'),
    upload([10, 20, 30, 40, 50, 60], [3, 2], 'f32'),
  );
  t.same([...native.readSync(y)], [1, 2, 30, 40, 1, 2]);
  t.same(
    [
      ...native.readSync(
        native.ops.select(condition, upload([7], [], 'i32'), upload([1, 2, 3], [3, 1], 'i32')),
      ),
    ],
    [7, 2, 7],
  );
  t.throws(() => native.ops.select(upload([1], [1], 'f32'), condition, condition), {
    name: 'TypeError',
    message: /condition must be bool, got f32/,
  });
  t.throws(() => native.ops.add(upload([1, 2], [2], 'f32'), upload([1, 2, 3], [3], 'f32')), {
    name: 'RangeError',
    message: /Add: shapes \[2\] and \[3\] do not broadcast/,
  });
  t.end();
});
