/**
 * Cases of the differentiable fused ops: shapes, the op, and its float64 definition. The small ones serve the numeric
 * gradients, which cost an evaluation per element; the large ones have the sizes of real models.
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
} from '@equipoise/testing';
import type * as tf from '@tensorflow/tfjs-core';
import * as fused from '../index.js';

/** One op at one set of shapes. */
export interface FusedCase {
  name: string;
  /** Shapes of the differentiable inputs. */
  shapes: number[][];
  op(...inputs: tf.Tensor[]): tf.Tensor;
  reference(...inputs: Array64[]): Array64;
}

const UNARY_OPS = { silu: fused.silu, gelu: fused.gelu, quickGelu: fused.quickGelu };
type UnaryName = keyof typeof UNARY_OPS;

function unaryCase(name: UnaryName, shape: number[]): FusedCase {
  const scalar = ACTIVATIONS64[name === 'quickGelu' ? 'quick_gelu' : name];
  return {
    name: `${name} [${shape}]`,
    shapes: [shape],
    op: (x) => UNARY_OPS[name](x as tf.Tensor),
    reference: (x) => map64(x, scalar),
  };
}

function gegluCase(shape: number[]): FusedCase {
  return { name: `geglu [${shape}]`, shapes: [shape], op: (x) => fused.geglu(x), reference: geglu64 };
}

interface AttentionShape {
  b: number;
  lq: number;
  lk: number;
  heads: number;
  depth: number;
  causal?: boolean;
  scale?: number;
}

function attentionCase({ b, lq, lk, heads, depth, ...rest }: AttentionShape): FusedCase {
  const width = heads * depth;
  return {
    name: `attention [${b},${lq},${lk}] x ${heads} x ${depth} ${JSON.stringify(rest)}`,
    shapes: [
      [b, lq, width],
      [b, lk, width],
      [b, lk, width],
    ],
    op: (q, k, v) => fused.attention(q as tf.Tensor, k as tf.Tensor, v as tf.Tensor, { heads, ...rest }),
    reference: (q, k, v) => attention64(q as Array64, k as Array64, v as Array64, { heads, ...rest }),
  };
}

function groupNormCase(
  shape: number[],
  groups: number,
  activation: 'none' | 'silu',
  epsilon = 1e-2,
): FusedCase {
  const channels = shape[shape.length - 1] as number;
  const options = { groups, epsilon, activation };
  return {
    name: `groupNorm [${shape}] / ${groups} ${activation}`,
    shapes: [shape, [channels], [channels]],
    op: (x, gamma, beta) => fused.groupNorm(x as tf.Tensor, gamma as tf.Tensor, beta as tf.Tensor, options),
    reference: (x, gamma, beta) => groupNorm64(x as Array64, gamma as Array64, beta as Array64, options),
  };
}

function layerNormCase(shape: number[], epsilon = 1e-2): FusedCase {
  const channels = shape[shape.length - 1] as number;
  return {
    name: `layerNorm [${shape}]`,
    shapes: [shape, [channels], [channels]],
    op: (x, gamma, beta) =>
      fused.layerNorm(x as tf.Tensor, gamma as tf.Tensor, beta as tf.Tensor, { epsilon }),
    reference: (x, gamma, beta) => layerNorm64(x as Array64, gamma as Array64, beta as Array64, { epsilon }),
  };
}

function linearCase(m: number, k: number, n: number, activation: fused.Activation, bias: boolean): FusedCase {
  return {
    name: `linear [${m},${k}] -> ${n} ${activation}${bias ? ' + bias' : ''}`,
    shapes: [[m, k], [n, k], ...(bias ? [[n]] : [])],
    op: (x, w, b) => fused.linear(x as tf.Tensor, w as tf.Tensor, b ?? null, activation),
    reference: (x, w, b) => linear64(x as Array64, w as Array64, b ?? null, activation),
  };
}

const addTo = (residual: Array64, y: Array64): Array64 => ({
  shape: y.shape,
  data: Float64Array.from(y.data, (value, i) => value + (residual.data[i] as number)),
});

/** The residual is the last input. */
function residualLinearCase(lead: number[], k: number, n: number): FusedCase {
  return {
    name: `linear [${lead},${k}] -> ${n} + bias + residual`,
    shapes: [[...lead, k], [n, k], [n], [...lead, n]],
    op: (x, w, b, residual) =>
      fused.linear(x as tf.Tensor, w as tf.Tensor, b as tf.Tensor, 'none', { residual: residual ?? null }),
    reference: (x, w, b, residual) =>
      addTo(residual as Array64, linear64(x as Array64, w as Array64, b as Array64)),
  };
}

function residualConvCase(stride: number, size: [number, number]): FusedCase {
  return {
    name: `conv2d / ${stride} + residual`,
    shapes: [
      [2, 5, 4, 3],
      [3, 3, 3, 6],
      [2, ...size, 6],
    ],
    op: (x, f, residual) =>
      fused.conv2d(x as tf.Tensor, f as tf.Tensor, null, {
        pad: [
          [1, 1],
          [1, 1],
        ],
        stride,
        residual: residual ?? null,
      }),
    reference: (x, f, residual) =>
      addTo(
        residual as Array64,
        conv2d64(x as Array64, f as Array64, null, { stride, dilation: 1, pad: [1, 1], size }),
      ),
  };
}

interface ConvShape {
  x: number[];
  f: number[];
  pad: 'same' | 'valid' | fused.Padding;
  /** Padding before, [top, left], and the output's size: what the reference is told. */
  at: [number, number];
  size: [number, number];
  stride?: number;
  dilation?: number;
  bias?: boolean;
  activation?: fused.Activation;
}

function convCase(shape: ConvShape): FusedCase {
  const { x, f, at, size, bias = false, pad, stride = 1, dilation = 1, activation = 'none' } = shape;
  const options = { pad, stride, dilation, activation };
  return {
    name: `conv2d [${x}] * [${f}] ${JSON.stringify(pad)} / ${stride} dilation ${dilation} ${activation}`,
    shapes: [x, f, ...(bias ? [[f[3] as number]] : [])],
    op: (input, filter, b) => fused.conv2d(input as tf.Tensor, filter as tf.Tensor, b ?? null, options),
    reference: (input, filter, b) =>
      conv2d64(input as Array64, filter as Array64, b ?? null, {
        stride,
        dilation,
        pad: at,
        size,
        activation,
      }),
  };
}

function miCase(shape: number[]): FusedCase {
  return {
    name: `miSquaredNorm [${shape}]`,
    shapes: [shape, shape, [shape[0] as number]],
    op: (a, b, w) => fused.miSquaredNorm(a as tf.Tensor, b as tf.Tensor, w as tf.Tensor),
    reference: (a, b, w) => miSquaredNorm64(a as Array64, b as Array64, w as Array64),
  };
}

/** The norm is detached: the reference keeps it at the point where the case was evaluated first. */
function doraCase(m: number, k: number, n: number, rank: number, dora: boolean, bias: boolean): FusedCase {
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
      fused.doraLinear(
        x as tf.Tensor,
        { weight, loraA, loraB, scaling, ...split(rest) } as fused.DoraLinearOptions,
      ),
    reference: (x, weight, loraA, loraB, ...rest) => {
      if (dora) frozen ??= doraNorm64(weight as Array64, loraA as Array64, loraB as Array64, scaling);
      const parts = { weight, loraA, loraB, scaling, norm: frozen, ...split(rest) };
      return doraLinear64(x as Array64, parts as Parameters<typeof doraLinear64>[1]);
    },
  };
}

const UNARY = ['silu', 'gelu', 'quickGelu'] as const;
const NORM_ACTIVATIONS = ['none', 'silu'] as const;

/** Empty, single, odd and unaligned sizes; every option at least once. */
export const SMALL_CASES: readonly FusedCase[] = [
  ...UNARY.flatMap((name) =>
    [[0], [1], [3, 0, 2], [7, 13], [2, 3, 33]].map((shape) => unaryCase(name, shape)),
  ),
  ...[
    [0, 4],
    [1, 2],
    [3, 10],
    [2, 3, 34],
  ].map(gegluCase),
  ...[
    { b: 0, lq: 3, lk: 3, heads: 2, depth: 4 },
    { b: 2, lq: 0, lk: 3, heads: 2, depth: 4 },
    { b: 1, lq: 1, lk: 1, heads: 1, depth: 1 },
    { b: 2, lq: 5, lk: 7, heads: 3, depth: 5 },
    { b: 1, lq: 9, lk: 9, heads: 2, depth: 8, causal: true },
    { b: 2, lq: 3, lk: 8, heads: 2, depth: 4, causal: true },
    { b: 1, lq: 17, lk: 5, heads: 1, depth: 16, scale: 0.7 },
  ].map(attentionCase),
  ...NORM_ACTIVATIONS.flatMap((activation) => [
    groupNormCase([0, 3, 4], 2, activation),
    groupNormCase([1, 1], 1, activation),
    groupNormCase([2, 3, 3, 8], 2, activation),
    groupNormCase([3, 5, 6], 6, activation),
    groupNormCase([1, 7, 3, 15], 5, activation),
    groupNormCase([2, 17, 32], 32, activation),
  ]),
  ...[
    [0, 4],
    [1, 1],
    [5, 7],
    [2, 3, 16],
    [3, 33],
  ].map((shape) => layerNormCase(shape)),
  ...fused.ACTIVATIONS.flatMap((activation) =>
    [true, false].flatMap((bias) => [
      linearCase(0, 3, 2, activation, bias),
      linearCase(1, 1, 1, activation, bias),
      linearCase(3, 5, 7, activation, bias),
      linearCase(9, 16, 33, activation, bias),
    ]),
  ),
  residualLinearCase([0], 3, 2),
  residualLinearCase([2, 3], 5, 7),
  residualLinearCase([9], 16, 33),
  residualConvCase(1, [5, 4]),
  residualConvCase(2, [3, 2]),
  ...(
    [
      { x: [0, 4, 4, 2], f: [3, 3, 2, 3], pad: 'same', at: [1, 1], size: [4, 4] },
      { x: [1, 1, 1, 1], f: [1, 1, 1, 1], pad: 'valid', at: [0, 0], size: [1, 1] },
      { x: [2, 5, 4, 3], f: [1, 1, 3, 5], pad: 'valid', at: [0, 0], size: [5, 4] },
      { x: [2, 5, 4, 3], f: [3, 3, 3, 2], pad: 'same', at: [1, 1], size: [5, 4], bias: true },
      {
        x: [1, 6, 7, 2],
        f: [3, 3, 2, 4],
        pad: 'same',
        at: [0, 1],
        size: [3, 4],
        stride: 2,
        bias: true,
        activation: 'silu',
      },
      {
        x: [1, 5, 5, 2],
        f: [3, 3, 2, 3],
        pad: [
          [0, 1],
          [0, 1],
        ],
        at: [0, 0],
        size: [2, 2],
        stride: 2,
        bias: true,
      },
      {
        x: [1, 5, 5, 2],
        f: [3, 2, 2, 3],
        pad: [
          [2, 0],
          [1, 2],
        ],
        at: [2, 1],
        size: [5, 7],
        activation: 'gelu',
      },
      { x: [1, 7, 8, 2], f: [3, 3, 2, 3], pad: 'same', at: [2, 2], size: [7, 8], dilation: 2, bias: true },
      { x: [1, 9, 9, 2], f: [2, 3, 2, 2], pad: 'valid', at: [0, 0], size: [3, 2], dilation: 3, stride: 2 },
    ] as ConvShape[]
  ).map(convCase),
  ...[
    [0, 3],
    [1, 1],
    [3, 0],
    [2, 3, 3, 4],
    [5, 37],
  ].map(miCase),
  doraCase(0, 3, 4, 2, true, true),
  doraCase(1, 1, 1, 1, true, false),
  doraCase(5, 7, 3, 2, true, true),
  doraCase(6, 9, 17, 4, true, false),
  doraCase(5, 7, 3, 2, false, true),
  doraCase(4, 16, 8, 3, false, false),
];

/** Sizes of Stable Diffusion's layers, and long or uneven rows. */
export const LARGE_CASES: readonly FusedCase[] = [
  ...UNARY.map((name) => unaryCase(name, [5, 40_001])),
  gegluCase([64, 2560]),
  gegluCase([3, 2 * 4099]),
  attentionCase({ b: 1, lq: 256, lk: 77, heads: 8, depth: 40 }),
  attentionCase({ b: 1, lq: 77, lk: 77, heads: 12, depth: 64, causal: true }),
  groupNormCase([2, 16, 16, 320], 32, 'silu', 1e-5),
  groupNormCase([1, 8, 8, 1280], 32, 'none', 1e-6),
  groupNormCase([1, 9, 4100], 41, 'silu', 1e-5),
  layerNormCase([77, 768], 1e-5),
  layerNormCase([3, 4097], 1e-5),
  linearCase(154, 768, 320, 'gelu', true),
  linearCase(64, 320, 640, 'none', false),
  residualLinearCase([2, 77], 320, 320),
  convCase({
    x: [1, 16, 16, 64],
    f: [3, 3, 64, 32],
    pad: 'same',
    at: [1, 1],
    size: [16, 16],
    bias: true,
    activation: 'silu',
  }),
  miCase([3, 64, 64, 4]),
  doraCase(96, 320, 320, 32, true, true),
  doraCase(77, 1024, 320, 32, true, false),
  doraCase(400, 64, 96, 8, false, false),
];
