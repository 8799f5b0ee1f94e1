import { FusedActivation, type Handle, type Storage } from '@equipoise/native';
import { difference, onlySmall, testEngine, bf16Values as values } from '@equipoise/testing';
import * as tf from '@tensorflow/tfjs-core';
import t from 'tap';
import { currentDevice, type EquipoiseBackend, useEngine } from '../index.js';
import { EPILOGUES64, product64 } from './testing/products.js';

await useEngine(testEngine());
const { native } = currentDevice() as EquipoiseBackend;

const upload = (v: Float32Array, shape: number[], storage: Storage, frozen = false): Handle =>
  native.upload(v, 'f32', shape, storage, frozen);

const ALL_SIZES: Array<[number, number, number]> = [
  [1, 1, 1],
  [1, 7, 3],
  [3, 1, 5],
  [5, 3, 1],
  [13, 31, 17],
  [14, 32, 64],
  [15, 33, 257],
  [29, 65, 511],
  [64, 48, 256],
  [1, 320, 320],
  [2, 17, 1030],
  [253, 33, 40],
  [300, 600, 70],
  [17, 1000, 33],
  [128, 5, 2100],
  [63, 64, 5000],
];
const SIZES = ALL_SIZES.filter(([m, n, k]) => !onlySmall() || m * n * k <= 1e6);

for (const [aStorage, bStorage] of [
  ['f32', 'f32'],
  ['bf16', 'bf16'],
  ['f32', 'bf16'],
  ['bf16', 'f32'],
] as Array<[Storage, Storage]>) {
  t.test(`${aStorage} x ${bStorage}: all transposes against float64`, (t) => {
    for (const [m, n, k] of SIZES) {
      const a = values(m * k, m + k);
      const b = values(k * n, n + k);
      for (const transposeA of [false, true]) {
        for (const transposeB of [false, true]) {
          const expected = product64(a, b, { m, n, k, transposeA, transposeB });
          for (const frozen of onlySmall() ? [false] : [false, true]) {
            const x = upload(a, transposeA ? [k, m] : [m, k], aStorage);
            const y = upload(b, transposeB ? [n, k] : [k, n], bStorage, frozen);
            const c = native.ops.matMul(x, y, transposeA, transposeB, true);
            const error = difference(native.readSync(c), expected).relativeNorm;
            if (!(error <= 1e-6))
              t.fail(`${m}x${n}x${k} ${transposeA} ${transposeB} frozen ${frozen}: error ${error}`);
            const narrow = native.ops.matMul(x, y, transposeA, transposeB, false);
            const bf16 = aStorage === 'bf16' || bStorage === 'bf16';
            if (native.info(narrow).storage !== (bf16 ? 'bf16' : 'f32'))
              t.fail(`stored as ${native.info(narrow).storage}`);
            const narrowError = difference(native.readSync(narrow), expected).relativeNorm;
            if (!(narrowError <= (bf16 ? 4e-3 : 1e-6)))
              t.fail(`stored ${m}x${n}x${k} ${transposeA} ${transposeB}: error ${narrowError}`);
            for (const h of [x, y, c, narrow]) native.release(h);
          }
        }
      }
      t.pass(`${m} x ${n} x ${k}`);
    }
    t.end();
  });
}

t.test('batch axes broadcast, and empty axes give empty or zero results', (t) => {
  const shapes: Array<[number[], number[]]> = [
    [
      [3, 5, 7],
      [3, 7, 4],
    ],
    [
      [3, 5, 7],
      [7, 4],
    ],
    [
      [5, 7],
      [2, 7, 4],
    ],
    [
      [2, 1, 5, 7],
      [3, 7, 4],
    ],
    [
      [4, 70, 33],
      [1, 33, 90],
    ],
    [
      [0, 5, 7],
      [7, 4],
    ],
    [
      [5, 0],
      [0, 4],
    ],
    [
      [0, 3],
      [3, 2],
    ],
    [
      [3, 2],
      [2, 0],
    ],
    [
      [2, 3, 0],
      [2, 0, 5],
    ],
  ];
  for (const [sa, sb] of shapes) {
    const a = tf.tensor(values(tf.util.sizeFromShape(sa), 1), sa);
    const b = tf.tensor(values(tf.util.sizeFromShape(sb), 2), sb);
    const c = tf.matMul(a as tf.Tensor3D, b as tf.Tensor3D);
    const [m, k, n] = [sa.at(-2) as number, sa.at(-1) as number, sb.at(-1) as number];
    const batch = tf.broadcast_util.assertAndGetBroadcastShape(sa.slice(0, -2), sb.slice(0, -2));
    t.same(c.shape, [...batch, m, n]);
    const [av, bv, cv] = [a.dataSync() as Float32Array, b.dataSync() as Float32Array, c.dataSync()];
    const matrix = (index: number, shape: number[]): number => {
      let [at, step, rest] = [0, 1, index];
      for (let i = batch.length - 1, j = shape.length - 3; i >= 0; i--, j--) {
        const at_i = rest % (batch[i] as number);
        rest = Math.floor(rest / (batch[i] as number));
        if (j >= 0 && shape[j] !== 1) at += at_i * step;
        if (j >= 0) step *= shape[j] as number;
      }
      return at;
    };
    for (let i = 0; i < tf.util.sizeFromShape(batch); i++) {
      const [ia, ib] = [matrix(i, sa) * m * k, matrix(i, sb) * k * n];
      const expected = product64(av.subarray(ia, ia + m * k), bv.subarray(ib, ib + k * n), { m, n, k });
      const error = difference(cv.subarray(i * m * n, (i + 1) * m * n), expected).relativeNorm;
      t.ok(error <= 1e-6, `[${sa}] x [${sb}] product ${i}: error ${error}`);
    }
  }
  t.end();
});

t.test('int32 products wrap around', (t) => {
  const a = tf.tensor2d([1, -2, 65536, 3, 4, 5], [2, 3], 'int32');
  const b = tf.tensor2d([1, 2, 3, 4, 65536, 6], [3, 2], 'int32');
  const c = tf.matMul(a, b);
  t.equal(c.dtype, 'int32');
  t.same([...c.dataSync()], [-5, 2 - 8 + 65536 * 6, 3 + 12 + 5 * 65536, 6 + 16 + 30]);
  t.end();
});

t.test('epilogue: scale, bias, addend, every activation', (t) => {
  for (const [m, n, k] of [
    [19, 37, 12],
    [64, 64, 3],
    [40, 20, 2048],
  ] as Array<[number, number, number]>) {
    const [a, b, bias, slope, addend] = [m * k, k * n, n, n, m * n].map((size, i) =>
      values(size, i + 5),
    ) as Float32Array[];
    const sums = product64(a as Float32Array, b as Float32Array, { m, n, k });
    const scale = 1 / Math.sqrt(k);
    for (const [kind, f] of Object.entries(EPILOGUES64)) {
      const activation: FusedActivation = Number(kind);
      const expected = sums.map((v, i) =>
        f(
          scale * v + (bias?.[i % n] as number) + 0.5 * (addend?.[i] as number),
          0.3,
          slope?.[i % n] as number,
        ),
      );
      const [ha, hb, hbias, hslope, hadd] = [
        upload(a as Float32Array, [m, k], 'f32'),
        upload(b as Float32Array, [k, n], 'f32'),
        upload(bias as Float32Array, [n], 'bf16'),
        upload(slope as Float32Array, [1, n], 'f32'),
        upload(addend as Float32Array, [m, n], 'f32'),
      ] as [Handle, Handle, Handle, Handle, Handle];
      const c = native.ops.fusedMatMul(
        ha,
        hb,
        false,
        false,
        hbias,
        activation,
        0.3,
        hslope,
        hadd,
        0.5,
        scale,
        false,
      );
      const error = difference(native.readSync(c), expected).relativeNorm;
      t.ok(error <= 2e-6, `${m}x${n}x${k} ${FusedActivation[activation]}: error ${error}`);
    }
  }
  t.end();
});

t.test('linear with a low-rank term and a scale per column', (t) => {
  const [m, n, k, r] = [50, 70, 300, 8];
  const [x, w, x2, w2, scale, bias] = [m * k, n * k, m * r, n * r, n, n].map((size, i) =>
    values(size, i + 50),
  ) as [Float32Array, Float32Array, Float32Array, Float32Array, Float32Array, Float32Array];
  const base = product64(x, w, { m, n, k, transposeB: true });
  const low = product64(x2, w2, { m, n, k: r, transposeB: true });
  const expected = base.map(
    (v, i) => (scale[i % n] as number) * (v + 2.5 * (low[i] as number)) + (bias[i % n] as number),
  );
  for (const storage of ['f32', 'bf16'] as const) {
    const args = [
      upload(x, [5, 10, k], storage),
      upload(w, [n, k], storage, true),
      upload(bias, [n], 'f32'),
    ] as const;
    const extra = [upload(x2, [m, r], storage), upload(w2, [n, r], 'f32')] as const;
    const y = native.ops.linear(
      ...args,
      FusedActivation.None,
      ...extra,
      2.5,
      upload(scale, [n], 'f32'),
      false,
      null,
    );
    t.same(native.info(y).shape, [5, 10, n]);
    const error = difference(native.readSync(y), expected).relativeNorm;
    t.ok(error <= (storage === 'bf16' ? 6e-3 : 1e-6), `${storage}: error ${error}`);
  }
  t.end();
});

t.test('wrong operands are refused with the op and the shapes', (t) => {
  const f32 = (shape: number[]): Handle =>
    upload(new Float32Array(tf.util.sizeFromShape(shape)), shape, 'f32');
  const product = (a: Handle, b: Handle): unknown => native.ops.matMul(a, b, false, false, false);
  t.throws(() => product(f32([2, 3]), f32([4, 5])), {
    name: 'RangeError',
    message: /MatMul: inner sizes 3 and 4 of \[2,3\]/,
  });
  t.throws(() => product(f32([3]), f32([3, 5])), { name: 'TypeError', message: /rank 2 or more, got \[3\]/ });
  t.throws(() => product(f32([2, 2, 3]), f32([3, 3, 5])), {
    name: 'RangeError',
    message: /batch axes .* do not broadcast/,
  });
  const mixed = native.upload(new Int32Array(6), 'i32', [2, 3], 'i32', false);
  t.throws(() => product(mixed, f32([3, 2])), {
    name: 'TypeError',
    message: /both be float32 or both int32, got i32 and f32/,
  });
  const fused = (bias: Handle): unknown =>
    native.ops.fusedMatMul(
      f32([2, 3]),
      f32([3, 4]),
      false,
      false,
      bias,
      FusedActivation.None,
      0,
      null,
      null,
      0,
      1,
      false,
    );
  t.throws(() => fused(f32([3])), {
    name: 'RangeError',
    message: /bias must have 4 elements or one, got shape \[3\]/,
  });
  t.end();
});
