/** Matrix products, convolutions and attention: what is bound by arithmetic. Shapes are those of the SD UNets. */
import { attention, conv2d, linear } from '@equipoise/backend';
import * as tf from '@tensorflow/tfjs-core';
import { defineFamily } from './case.js';

const BOTH = ['f32', 'bf16'] as const;
const KERNELS = 'torch_kernels.py';
const FUSED = 'torch_fused.py';

/** Scale of weights that keeps sums near one. */
const fan = (n: number): number => 1 / Math.sqrt(n);

export const matrixFamilies = [
  defineFamily({
    name: 'linear',
    kernels: ['Linear', 'LinearGradWeight'],
    sizes: [
      { m: 1024, k: 1024, n: 1024 },
      { m: 4096, k: 320, n: 320 },
      { m: 4096, k: 320, n: 2560 },
      { m: 1024, k: 640, n: 640 },
      { m: 1024, k: 640, n: 5120 },
      { m: 256, k: 1280, n: 1280 },
      { m: 256, k: 1280, n: 10240 },
      { m: 432, k: 768, n: 3072 },
      { m: 16384, k: 128, n: 128 },
    ],
    checks: [
      { m: 1, k: 1, n: 1 },
      { m: 7, k: 33, n: 17 },
      { m: 64, k: 96, n: 80 },
    ],
    precisions: BOTH,
    label: ({ m, k, n }) => `${m}x${k}x${n}`,
    inputs: ({ m, k, n }) => [
      { shape: [m, k], role: 'activation' },
      { shape: [n, k], role: 'weight', scale: fan(k) },
      { shape: [n], role: 'vector' },
    ],
    compute: ([x, w, b]) => linear(x as tf.Tensor, w as tf.Tensor, b as tf.Tensor1D),
    flops: ({ m, k, n }) => 2 * m * k * n,
    bytes: ({ m, k, n }, width) => width * (m * k + k * n + m * n),
    peers: ({ m, k, n }) => ({ torch: { script: KERNELS, case: { kind: 'linear', m, k, n } } }),
    differentiable: [0, 1, 2],
  }),
  defineFamily({
    name: 'matMul',
    kernels: ['BatchMatMul'],
    sizes: [{ batch: 1, m: 1024, k: 1024, n: 1024 }],
    checks: [
      { batch: 1, m: 5, k: 19, n: 3 },
      { batch: 3, m: 16, k: 40, n: 24 },
    ],
    precisions: BOTH,
    label: ({ batch, m, k, n }) => `${batch}x${m}x${k}x${n}`,
    inputs: ({ batch, m, k, n }) => [
      { shape: [batch, m, k], role: 'activation' },
      { shape: [batch, k, n], role: 'activation', scale: fan(k) },
    ],
    compute: ([a, b]) => tf.matMul(a as tf.Tensor, b as tf.Tensor),
    flops: ({ batch, m, k, n }) => 2 * batch * m * k * n,
    bytes: ({ batch, m, k, n }, width) => width * batch * (m * k + k * n + m * n),
    peers: ({ batch, m, k, n }) => ({ torch: { script: KERNELS, case: { kind: 'matmul', batch, m, k, n } } }),
    differentiable: [0, 1],
  }),
  defineFamily({
    name: 'conv2d',
    kernels: ['Conv2DFused', 'Conv2DFusedGradInput', 'Conv2DFusedGradFilter'],
    sizes: [
      { batch: 1, size: 64, in: 320, out: 320, taps: 3, stride: 1 },
      { batch: 1, size: 32, in: 640, out: 640, taps: 3, stride: 1 },
      { batch: 1, size: 16, in: 1280, out: 1280, taps: 3, stride: 1 },
      { batch: 1, size: 64, in: 320, out: 320, taps: 3, stride: 2 },
      { batch: 1, size: 32, in: 960, out: 640, taps: 1, stride: 1 },
      { batch: 64, size: 16, in: 64, out: 64, taps: 3, stride: 1 },
      { batch: 16, size: 64, in: 32, out: 32, taps: 3, stride: 1 },
    ],
    checks: [
      { batch: 2, size: 7, in: 5, out: 3, taps: 3, stride: 1 },
      { batch: 1, size: 7, in: 16, out: 24, taps: 3, stride: 2 },
      { batch: 3, size: 5, in: 9, out: 17, taps: 1, stride: 1 },
    ],
    precisions: BOTH,
    label: ({ batch, size, in: i, out, taps, stride }) =>
      `${taps}x${taps} ${batch}x${size}^2 ${i}->${out}${stride === 1 ? '' : ` /${stride}`}`,
    inputs: ({ batch, size, in: i, out, taps }) => [
      { shape: [batch, size, size, i], role: 'activation' },
      { shape: [taps, taps, i, out], role: 'weight', scale: fan(taps * taps * i) },
      { shape: [out], role: 'vector' },
    ],
    compute: ([x, w, b], { stride }) =>
      conv2d(x as tf.Tensor4D, w as tf.Tensor4D, b as tf.Tensor1D, { pad: 'same', stride }),
    flops: ({ batch, size, in: i, out, taps, stride }) =>
      2 * batch * Math.ceil(size / stride) ** 2 * i * out * taps * taps,
    bytes: ({ batch, size, in: i, out, taps, stride }, width) =>
      width * (batch * (size * size * i + Math.ceil(size / stride) ** 2 * out) + taps * taps * i * out),
    peers: ({ batch, size, in: i, out, taps, stride }) => ({
      torch: {
        script: KERNELS,
        case: { kind: 'conv', batch, height: size, width: size, channels: i, outputs: out, taps, stride },
      },
    }),
    differentiable: [0, 1, 2],
  }),
  defineFamily({
    name: 'attention',
    kernels: ['Attention', 'AttentionGrad'],
    sizes: [
      { batch: 2, heads: 5, queries: 4096, keys: 4096, depth: 64 },
      { batch: 2, heads: 10, queries: 1024, keys: 1024, depth: 64 },
      { batch: 2, heads: 5, queries: 4096, keys: 77, depth: 64 },
    ],
    checks: [
      { batch: 1, heads: 1, queries: 1, keys: 1, depth: 1 },
      { batch: 2, heads: 3, queries: 33, keys: 19, depth: 20 },
    ],
    precisions: BOTH,
    label: ({ batch, heads, queries, keys, depth }) =>
      `${batch}x${heads}x${queries}x${depth}${keys === queries ? '' : `, ${keys} keys`}`,
    inputs: ({ batch, heads, queries, keys, depth }) => [
      { shape: [batch, queries, heads * depth], role: 'activation' },
      { shape: [batch, keys, heads * depth], role: 'activation' },
      { shape: [batch, keys, heads * depth], role: 'activation' },
    ],
    compute: ([q, k, v], { heads }) =>
      attention(q as tf.Tensor3D, k as tf.Tensor3D, v as tf.Tensor3D, { heads: heads as number }),
    flops: ({ batch, heads, queries, keys, depth }) => 4 * batch * heads * queries * keys * depth,
    bytes: ({ batch, heads, queries, keys, depth }, width) =>
      2 * width * batch * heads * depth * (queries + keys),
    peers: ({ batch, heads, queries, keys, depth }) => ({
      torch: { script: FUSED, case: { kind: 'attention', batch, heads, queries, keys, depth } },
    }),
    differentiable: [0, 1, 2],
  }),
];
