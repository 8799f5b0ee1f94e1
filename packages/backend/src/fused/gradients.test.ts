/**
 * Every differentiable fused op against its float64 definition, and its gradient against central differences of that
 * definition, on each engine. Shapes are small here, because differences cost an evaluation per element; the sizes of
 * real models are in sizes.test.ts.
 */
import {
  ACTIVATIONS64,
  type Array64,
  attention64,
  conv2d64,
  doraLinear64,
  doraNorm64,
  geglu64,
  groupNorm64,
  layerNorm64,
  linear64,
  map64,
  miSquaredNorm64,
  numericGradient,
  requireClose,
  requireNoLeak,
} from '@equipoise/testing';
import { PhiloxStream } from '@equipoise/core';
import * as tf from '@tensorflow/tfjs-core';
import t from 'tap';
import { ENGINES, useEngine } from '../index.js';
import * as fused from './index.js';

interface Case {
  name: string;
  /** Shapes of the differentiable inputs. */
  shapes: number[][];
  op(...inputs: tf.Tensor[]): tf.Tensor;
  reference(...inputs: Array64[]): Array64;
}


const unaryCases: Case[] = (['silu', 'gelu', 'quickGelu'] as const).flatMap((name) =>
  [[0], [1], [3, 0, 2], [7, 13], [2, 3, 33]].map((shape) => ({
    name: `${name} [${shape}]`,
    shapes: [shape],
    op: (x: tf.Tensor) => fused[name](tf.mul(x, 2)),
    reference: (x: Array64) => map64(x, (value) => ACTIVATIONS64[name === 'quickGelu' ? 'quick_gelu' : name](2 * value)),
  })),
);

const gegluCases: Case[] = [[0, 4], [1, 2], [3, 10], [2, 3, 34]].map((shape) => ({
  name: `geglu [${shape}]`,
  shapes: [shape],
  op: (x) => fused.geglu(x),
  reference: geglu64,
}));

const attentionCases: Case[] = [
  { b: 0, lq: 3, lk: 3, heads: 2, depth: 4 },
  { b: 2, lq: 0, lk: 3, heads: 2, depth: 4 },
  { b: 1, lq: 1, lk: 1, heads: 1, depth: 1 },
  { b: 2, lq: 5, lk: 7, heads: 3, depth: 5 },
  { b: 1, lq: 9, lk: 9, heads: 2, depth: 8, causal: true },
  { b: 2, lq: 3, lk: 8, heads: 2, depth: 4, causal: true },
  { b: 1, lq: 17, lk: 5, heads: 1, depth: 16, scale: 0.7 },
].map(({ b, lq, lk, heads, depth, ...rest }) => ({
  name: `attention [${b},${lq},${lk}] x ${heads} x ${depth} ${JSON.stringify(rest)}`,
  shapes: [[b, lq, heads * depth], [b, lk, heads * depth], [b, lk, heads * depth]],
  op: (q, k, v) => fused.attention(q, k, v, { heads, ...rest }),
  reference: (q, k, v) => attention64(q, k, v, { heads, ...rest }),
}));

const groupNormCases: Case[] = (
  [
    [[0, 3, 4], 2],
    [[1, 1], 1],
    [[2, 3, 3, 8], 2],
    [[3, 5, 6], 6],
    [[1, 7, 3, 15], 5],
    [[2, 17, 32], 32],
  ] as Array<[number[], number]>
).flatMap(([shape, groups]) =>
  (['none', 'silu'] as const).map((activation) => {
    const channels = shape[shape.length - 1] as number;
    const options = { groups, epsilon: 1e-2, activation };
    return {
      name: `groupNorm [${shape}] / ${groups} ${activation}`,
      shapes: [shape, [channels], [channels]],
      op: (x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor) => fused.groupNorm(x, gamma, beta, options),
      reference: (x: Array64, gamma: Array64, beta: Array64) => groupNorm64(x, gamma, beta, options),
    };
  }),
);

const layerNormCases: Case[] = [[0, 4], [1, 1], [5, 7], [2, 3, 16], [3, 33]].map((shape) => {
  const channels = shape[shape.length - 1] as number;
  return {
    name: `layerNorm [${shape}]`,
    shapes: [shape, [channels], [channels]],
    op: (x, gamma, beta) => fused.layerNorm(x, gamma, beta, { epsilon: 1e-2 }),
    reference: (x, gamma, beta) => layerNorm64(x, gamma, beta, { epsilon: 1e-2 }),
  };
});

const linearCases: Case[] = fused.ACTIVATIONS.flatMap((activation) =>
  [[0, 3, 2], [1, 1, 1], [3, 5, 7], [9, 16, 33]].flatMap(([m = 0, k = 0, n = 0]) =>
    [true, false].map((bias) => ({
      name: `linear [${m},${k}] -> ${n} ${activation}${bias ? ' + bias' : ''}`,
      shapes: [[m, k], [n, k], ...(bias ? [[n]] : [])],
      op: (x: tf.Tensor, w: tf.Tensor, b?: tf.Tensor) => fused.linear(x, w, b ?? null, activation),
      reference: (x: Array64, w: Array64, b?: Array64) => linear64(x, w, b ?? null, activation),
    })),
  ),
);

const convCases: Case[] = (
  [
    { x: [0, 4, 4, 2], f: [3, 3, 2, 3], pad: 'same', at: [1, 1], size: [4, 4] },
    { x: [1, 1, 1, 1], f: [1, 1, 1, 1], pad: 'valid', at: [0, 0], size: [1, 1] },
    { x: [2, 5, 4, 3], f: [1, 1, 3, 5], pad: 'valid', at: [0, 0], size: [5, 4] },
    { x: [2, 5, 4, 3], f: [3, 3, 3, 2], pad: 'same', at: [1, 1], size: [5, 4], bias: true },
    { x: [1, 6, 7, 2], f: [3, 3, 2, 4], pad: 'same', at: [0, 1], size: [3, 4], stride: 2, bias: true, activation: 'silu' },
    { x: [1, 5, 5, 2], f: [3, 3, 2, 3], pad: [[0, 1], [0, 1]], at: [0, 0], size: [2, 2], stride: 2, bias: true },
    { x: [1, 5, 5, 2], f: [3, 2, 2, 3], pad: [[2, 0], [1, 2]], at: [2, 1], size: [5, 7], activation: 'gelu' },
    { x: [1, 7, 8, 2], f: [3, 3, 2, 3], pad: 'same', at: [2, 2], size: [7, 8], dilation: 2, bias: true },
    { x: [1, 9, 9, 2], f: [2, 3, 2, 2], pad: 'valid', at: [0, 0], size: [3, 2], dilation: 3, stride: 2 },
  ] as Array<{
    x: number[];
    f: number[];
    pad: 'same' | 'valid' | fused.Padding;
    at: [number, number];
    size: [number, number];
    stride?: number;
    dilation?: number;
    bias?: boolean;
    activation?: fused.Activation;
  }>
).map(({ x, f, at, size, bias = false, pad, stride = 1, dilation = 1, activation = 'none' }) => ({
  name: `conv2d [${x}] * [${f}] ${JSON.stringify(pad)} / ${stride} dilation ${dilation} ${activation}`,
  shapes: [x, f, ...(bias ? [[f[3] as number]] : [])],
  op: (input, filter, b?) => fused.conv2d(input, filter, b ?? null, { pad, stride, dilation, activation }),
  reference: (input, filter, b?) => conv2d64(input, filter, b ?? null, { stride, dilation, pad: at, size, activation }),
}));

const miCases: Case[] = [[0, 3], [1, 1], [3, 0], [2, 3, 3, 4], [5, 37]].map((shape) => ({
  name: `miSquaredNorm [${shape}]`,
  shapes: [shape, shape, [shape[0] as number]],
  op: (a, b, w) => fused.miSquaredNorm(a, b, w),
  reference: miSquaredNorm64,
}));

/** The norm is detached: the reference keeps it at the point where the case was evaluated first. */
function doraCase(m: number, k: number, n: number, rank: number, dora: boolean, bias: boolean): Case {
  const scaling = 0.75;
  let frozen: Array64 | null = null;
  const split = <T>(rest: T[]) => ({
    magnitude: dora ? (rest.shift() as T) : null,
    bias: bias ? (rest.shift() as T) : null,
  });
  return {
    name: `doraLinear [${m},${k}] -> ${n} rank ${rank}${dora ? ' dora' : ' lora'}${bias ? ' + bias' : ''}`,
    shapes: [[m, k], [n, k], [rank, k], [n, rank], ...(dora ? [[n]] : []), ...(bias ? [[n]] : [])],
    op: (x, weight, loraA, loraB, ...rest) =>
      fused.doraLinear(x, { weight, loraA, loraB, scaling, ...split(rest) } as fused.DoraLinearOptions),
    reference: (x, weight, loraA, loraB, ...rest) => {
      if (dora) frozen ??= doraNorm64(weight as Array64, loraA as Array64, loraB as Array64, scaling);
      const parts = { weight, loraA, loraB, scaling, norm: frozen, ...split(rest) };
      return doraLinear64(x as Array64, parts as Parameters<typeof doraLinear64>[1]);
    },
  };
}

const doraCases: Case[] = [
  doraCase(0, 3, 4, 2, true, true),
  doraCase(1, 1, 1, 1, true, false),
  doraCase(5, 7, 3, 2, true, true),
  doraCase(6, 9, 17, 4, true, false),
  doraCase(5, 7, 3, 2, false, true),
  doraCase(4, 16, 8, 3, false, false),
];

const CASES = [
  ...unaryCases,
  ...gegluCases,
  ...attentionCases,
  ...groupNormCases,
  ...layerNormCases,
  ...linearCases,
  ...convCases,
  ...miCases,
  ...doraCases,
];

const widen = (values: Float32Array, shape: number[]): Array64 => ({ shape, data: Float64Array.from(values) });

/** Forward and gradient of one case on the current engine. */
async function check({ name, shapes, op, reference }: Case): Promise<void> {
  const values = shapes.map((shape, i) => new PhiloxStream(11, i).fillNormal(new Float32Array(tf.util.sizeFromShape(shape))));
  const tensors = values.map((value, i) => tf.tensor(value, shapes[i] as number[]));
  const inputs = values.map((value, i) => widen(value, shapes[i] as number[]));
  const expected = reference(...inputs);
  const y = op(...tensors);
  if (y.shape.join() !== expected.shape.join()) throw new Error(`${name}: shape [${y.shape}], not [${expected.shape}]`);
  requireClose(name, await y.data(), expected.data, { relativeNorm: 1e-5 });

  const weights = new PhiloxStream(12).fillNormal(new Float32Array(expected.data.length));
  const weighted = (...args: Array64[]): number =>
    reference(...args).data.reduce((sum, value, i) => sum + value * (weights[i] as number), 0);
  const dy = tf.tensor(weights, [...expected.shape]);
  const gradients = tf.grads(op)(tensors, dy);
  for (const [i, gradient] of gradients.entries()) {
    const numeric = numericGradient(weighted, inputs, i);
    requireClose(`${name}: gradient ${i}`, await gradient.data(), numeric, { relativeNorm: 1e-5, absolute: 1e-5 });
  }
  // One input at a time: the gradients of the others are never asked for.
  for (const [i, gradient] of gradients.entries()) {
    const alone = tf.grad((x) => op(...tensors.map((tensor, j) => (j === i ? x : tensor))))(tensors[i] as tf.Tensor, dy);
    requireClose(`${name}: gradient ${i} alone`, await alone.data(), await gradient.data(), { absolute: 0 });
    alone.dispose();
  }
  tf.dispose([tensors, y, dy, gradients]);
}

for (const engine of ENGINES.filter((name) => tf.engine().registryFactory[name] !== undefined)) {
  t.test(engine, async (t) => {
    await useEngine(engine);
    for (const testCase of CASES) {
      await t.resolves(check(testCase), testCase.name);
    }
    await requireNoLeak('gradients', () => check(CASES[CASES.length - 1] as Case));
  });
}
