/** Norms, activations, the sampler's step and the optimizer: what is bound by memory. */
import {
  adamW,
  geglu,
  gelu,
  groupNorm,
  guidedStep,
  layerNorm,
  miSquaredNorm,
  quickGelu,
  randomNormal,
  randomUniform,
  silu,
  toStorage,
} from '@equipoise/backend';
import * as tf from '@tensorflow/tfjs-core';
import { count, defineFamily, type KernelFamily, type PeerCall } from './case.js';

const BOTH = ['f32', 'bf16'] as const;
const F32 = ['f32'] as const;
const FUSED = 'torch_fused.py';
const OPS = 'torch_ops.py';

/** PyTorch's op of this name on one or two matrices. */
const plain =
  (kind: string) =>
  (rows: number, columns: number): PeerCall => ({ script: OPS, case: { kind, rows, columns } });

function unaryFamily(
  name: string,
  kernels: string[],
  f: (x: tf.Tensor) => tf.Tensor,
  peer: (rows: number, columns: number) => PeerCall,
): KernelFamily {
  return defineFamily({
    name,
    kernels,
    sizes: [{ rows: 4096, columns: 1280 }],
    checks: [{ rows: 3, columns: 7 }],
    precisions: BOTH,
    label: ({ rows, columns }) => `${rows}x${columns}`,
    inputs: ({ rows, columns }) => [{ shape: [rows, columns], role: 'activation' }],
    compute: ([x]) => f(x as tf.Tensor),
    flops: () => 0,
    bytes: ({ rows, columns }, width) => 2 * width * rows * columns,
    peers: ({ rows, columns }) => ({ torch: peer(rows, columns) }),
    differentiable: [0],
  });
}

/** Parameter, gradient and moments of one AdamW update; the update is in place, so results drift but times do not. */
const adamWFamily = defineFamily({
  name: 'adamW',
  kernels: ['AdamW'],
  sizes: [{ tensors: 128, size: 51200 }],
  checks: [],
  precisions: F32,
  label: ({ tensors, size }) => `${tensors} x ${size}`,
  inputs: ({ tensors, size }) =>
    Array.from({ length: 4 * tensors }, (_, i) => ({
      shape: [size],
      role: 'variable' as const,
      scale: i % 4 === 3 ? 0 : 0.01,
    })),
  compute: (inputs) => {
    const parameters = Array.from({ length: inputs.length / 4 }, (_, i) => ({
      parameter: inputs[4 * i] as tf.Variable,
      gradient: inputs[4 * i + 1] as tf.Tensor,
      m: inputs[4 * i + 2] as tf.Variable,
      v: inputs[4 * i + 3] as tf.Variable,
    }));
    return adamW(parameters, { step: 10, learningRate: 1e-6, maxNorm: 1 });
  },
  flops: () => 0,
  bytes: ({ tensors, size }) => 32 * tensors * size,
  peers: ({ tensors, size }) => ({
    torch: { script: FUSED, case: { kind: 'adamW', tensors, elements: tensors * size } },
  }),
});

export const pointwiseFamilies = [
  defineFamily({
    name: 'groupNorm',
    kernels: ['GroupNorm', 'GroupNormGrad', 'GroupNormParamGrad'],
    sizes: [
      { size: 64, channels: 320 },
      { size: 32, channels: 640 },
    ],
    checks: [{ size: 3, channels: 64 }],
    precisions: BOTH,
    label: ({ size, channels }) => `+SiLU ${size}^2 x ${channels}`,
    inputs: ({ size, channels }) => [
      { shape: [1, size, size, channels], role: 'activation' },
      { shape: [channels], role: 'vector' },
      { shape: [channels], role: 'vector' },
    ],
    compute: ([x, g, b]) =>
      groupNorm(x as tf.Tensor, g as tf.Tensor1D, b as tf.Tensor1D, {
        groups: 32,
        epsilon: 1e-5,
        activation: 'silu',
      }),
    flops: () => 0,
    bytes: ({ size, channels }, width) => 2 * width * size * size * channels,
    peers: ({ size, channels }) => ({
      torch: { script: FUSED, case: { kind: 'groupNorm', batch: 1, size, channels } },
    }),
    differentiable: [0, 1, 2],
    tolerance: 3e-5,
  }),
  defineFamily({
    name: 'layerNorm',
    kernels: ['LayerNorm', 'LayerNormGrad', 'LayerNormParamGrad'],
    sizes: [{ rows: 4096, columns: 320 }],
    checks: [{ rows: 5, columns: 37 }],
    precisions: BOTH,
    label: ({ rows, columns }) => `${rows}x${columns}`,
    inputs: ({ rows, columns }) => [
      { shape: [rows, columns], role: 'activation' },
      { shape: [columns], role: 'vector' },
      { shape: [columns], role: 'vector' },
    ],
    compute: ([x, g, b]) => layerNorm(x as tf.Tensor, g as tf.Tensor1D, b as tf.Tensor1D, { epsilon: 1e-5 }),
    flops: () => 0,
    bytes: ({ rows, columns }, width) => 2 * width * rows * columns,
    peers: ({ rows, columns }) => ({
      torch: { script: FUSED, case: { kind: 'layerNorm', rows, channels: columns } },
    }),
    differentiable: [0, 1, 2],
  }),
  unaryFamily('silu', ['Silu', 'SiluGrad'], silu, plain('silu')),
  unaryFamily('gelu', ['Gelu', 'GeluGrad'], gelu, (rows, channels) => ({
    script: FUSED,
    case: { kind: 'gelu', rows, channels },
  })),
  unaryFamily('quickGelu', ['QuickGelu', 'QuickGeluGrad'], quickGelu, plain('quickGelu')),
  defineFamily({
    name: 'geglu',
    kernels: ['Geglu', 'GegluGrad'],
    sizes: [{ rows: 4096, columns: 1280 }],
    checks: [{ rows: 3, columns: 11 }],
    precisions: BOTH,
    label: ({ rows, columns }) => `${rows}x${2 * columns}`,
    inputs: ({ rows, columns }) => [{ shape: [rows, 2 * columns], role: 'activation' }],
    compute: ([x]) => geglu(x as tf.Tensor),
    flops: () => 0,
    bytes: ({ rows, columns }, width) => 3 * width * rows * columns,
    peers: ({ rows, columns }) => ({
      torch: { script: FUSED, case: { kind: 'geglu', rows, channels: columns } },
    }),
    differentiable: [0],
  }),
  defineFamily({
    name: 'softmax',
    kernels: ['Softmax'],
    sizes: [{ rows: 4096, columns: 1024 }],
    checks: [{ rows: 3, columns: 13 }],
    precisions: F32,
    label: ({ rows, columns }) => `${rows}x${columns}`,
    inputs: ({ rows, columns }) => [{ shape: [rows, columns], role: 'activation' }],
    compute: ([x]) => tf.softmax(x as tf.Tensor),
    flops: () => 0,
    bytes: ({ rows, columns }, width) => 2 * width * rows * columns,
    peers: ({ rows, columns }) => ({ torch: plain('softmax')(rows, columns) }),
    differentiable: [0],
  }),
  defineFamily({
    name: 'add',
    kernels: ['Add'],
    sizes: [{ rows: 4096, columns: 1280 }],
    checks: [{ rows: 3, columns: 13 }],
    precisions: BOTH,
    label: ({ rows, columns }) => `${rows}x${columns}`,
    inputs: ({ rows, columns }) => [
      { shape: [rows, columns], role: 'activation' },
      { shape: [rows, columns], role: 'activation' },
    ],
    compute: ([a, b]) => tf.add(a as tf.Tensor, b as tf.Tensor),
    flops: () => 0,
    bytes: ({ rows, columns }, width) => 3 * width * rows * columns,
    peers: ({ rows, columns }) => ({ torch: plain('add')(rows, columns) }),
    differentiable: [0, 1],
  }),
  defineFamily({
    name: 'toStorage',
    kernels: ['ToStorage'],
    sizes: [{ rows: 4096, columns: 1280 }],
    checks: [],
    precisions: F32,
    label: ({ rows, columns }) => `${rows}x${columns} to bf16`,
    inputs: ({ rows, columns }) => [{ shape: [rows, columns], role: 'activation' }],
    compute: ([x]) => toStorage(x as tf.Tensor, 'bf16'),
    flops: () => 0,
    bytes: ({ rows, columns }) => 6 * rows * columns,
    peers: ({ rows, columns }) => ({ torch: plain('toBf16')(rows, columns) }),
  }),
  defineFamily({
    name: 'guidedStep',
    kernels: ['GuidedStep'],
    sizes: [
      { batch: 50, size: 64 },
      { batch: 1024, size: 64 },
    ],
    checks: [{ batch: 3, size: 5 }],
    precisions: F32,
    label: ({ batch, size }) => `${batch} x 4 x ${size}^2`,
    inputs: ({ batch, size }) =>
      Array.from({ length: 3 }, () => ({ shape: [batch, size, size, 4], role: 'activation' as const })),
    compute: ([u, c, x]) => {
      const step = { epsUncond: u as tf.Tensor, epsCond: c as tf.Tensor, latents: x as tf.Tensor };
      const { latents, eps, mi } = guidedStep({ ...step, guidance: 7.5, miWeight: 0.1, cx: 1.01, ce: -0.02 });
      return [latents, eps, mi];
    },
    flops: () => 0,
    bytes: ({ batch, size }, width) => 5 * width * batch * size * size * 4,
    peers: ({ batch, size }) => ({ torch: { script: FUSED, case: { kind: 'guidedStep', batch, size } } }),
  }),
  defineFamily({
    name: 'miSquaredNorm',
    kernels: ['MISquaredNorm', 'MISquaredNormGrad'],
    sizes: [{ batch: 50, size: 64 }],
    checks: [{ batch: 3, size: 5 }],
    precisions: F32,
    label: ({ batch, size }) => `${batch} x 4 x ${size}^2`,
    inputs: ({ batch, size }) => [
      { shape: [batch, size, size, 4], role: 'activation' },
      { shape: [batch, size, size, 4], role: 'activation' },
      { shape: [batch], role: 'vector' },
    ],
    compute: ([c, u, w]) => miSquaredNorm(c as tf.Tensor, u as tf.Tensor, w as tf.Tensor1D),
    flops: () => 0,
    bytes: ({ batch, size }, width) => 2 * width * batch * size * size * 4,
    peers: ({ batch, size }) => ({ torch: { script: OPS, case: { kind: 'miSquaredNorm', batch, size } } }),
    differentiable: [0],
  }),
  adamWFamily,
  ...(['Normal', 'Uniform'] as const).map((kind) =>
    defineFamily({
      name: `random${kind}`,
      kernels: [`Random${kind}`],
      sizes: [{ batch: 50, size: 64 }],
      checks: [{ batch: 2, size: 5 }],
      precisions: F32,
      label: ({ batch, size }: { batch: number; size: number }) => `${batch} x 4 x ${size}^2`,
      inputs: () => [],
      compute: (_: readonly tf.Tensor[], { batch, size }: { batch: number; size: number }) =>
        (kind === 'Normal' ? randomNormal : randomUniform)([batch, size, size, 4], { seed: 1, stream: 2 }),
      flops: () => 0,
      bytes: ({ batch, size }: { batch: number; size: number }) => 4 * count([batch, size, size, 4]),
      peers: ({ batch, size }: { batch: number; size: number }) => ({
        torch: { script: OPS, case: { kind: kind === 'Normal' ? 'randn' : 'rand', batch, size } },
      }),
    }),
  ),
];
