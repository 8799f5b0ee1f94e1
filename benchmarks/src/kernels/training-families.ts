/** Forward and backward together: the direction loss, and adapted layers beside frozen ones. */
import { directionAlignmentLoss, doraLinear, doraNorm, linear } from '@equipoise/backend';
import * as tf from '@tensorflow/tfjs-core';
import { defineFamily, type InputSpec, type KernelFamily } from './case.js';

const BOTH = ['f32', 'bf16'] as const;
const FUSED = 'torch_fused.py';

/** Layers of SD-2.1's UNet that carry adapters: rows, inputs, outputs. */
const LAYERS = [
  { m: 4096, k: 320, n: 320, r: 32 },
  { m: 1024, k: 640, n: 640, r: 32 },
  { m: 256, k: 1280, n: 1280, r: 32 },
];
const CHECKS = [{ m: 9, k: 24, n: 17, r: 3 }];

/** Gradients of `f` with respect to `inputs`, weighted by `dy`. */
function backward(f: (...inputs: tf.Tensor[]) => tf.Tensor, inputs: tf.Tensor[], dy: tf.Tensor): tf.Tensor[] {
  return tf.grads(f)(inputs, dy);
}

function layerInputs({ m, k, n, r }: { m: number; k: number; n: number; r: number }): InputSpec[] {
  return [
    { shape: [m, k], role: 'activation' },
    { shape: [n, k], role: 'weight', scale: 1 / Math.sqrt(k) },
    { shape: [m, n], role: 'activation' },
    { shape: [r, k], role: 'variable', scale: 1 / Math.sqrt(k) },
    { shape: [n, r], role: 'variable', scale: 0.1 },
    { shape: [n], role: 'variable' },
  ];
}

const frozen = defineFamily({
  name: 'frozenLinear',
  kernels: ['Linear', 'BatchMatMul'],
  sizes: LAYERS,
  checks: [],
  precisions: BOTH,
  label: ({ m, k, n }) => `fwd+bwd ${m}x${k}x${n}`,
  inputs: (sizes) => layerInputs(sizes).slice(0, 3),
  compute: ([x, w, dy]) =>
    backward((input) => linear(input as tf.Tensor, w as tf.Tensor, null), [x as tf.Tensor], dy as tf.Tensor),
  flops: ({ m, k, n }) => 4 * m * k * n,
  bytes: ({ m, k, n }, width) => width * (2 * m * k + 2 * k * n + 2 * m * n),
  peers: ({ m, k, n }) => ({ torch: { script: 'torch_ops.py', case: { kind: 'frozenLinear', m, k, n } } }),
});

/** `train` with the row norms computed in every call, as at an accumulation of one. */
const dora = defineFamily({
  name: 'doraLinear',
  kernels: [
    'DoraNorm',
    'DoraLinear',
    'DoraLinearGradHidden',
    'DoraLinearGradInput',
    'DoraLinearGradLora',
    'DoraLinearGradMagnitude',
  ],
  sizes: LAYERS,
  checks: CHECKS,
  precisions: BOTH,
  label: ({ m, k, n, r }) => `fwd+bwd ${m}x${k}x${n} r${r}`,
  inputs: layerInputs,
  compute: ([x, w, dy, a, b, magnitude]) => {
    const weight = w as tf.Tensor;
    const layer = (input: tf.Tensor, loraA: tf.Tensor, loraB: tf.Tensor, m: tf.Tensor): tf.Tensor => {
      const norm = doraNorm(weight, loraA, loraB, 1);
      return doraLinear(input, { weight, bias: null, loraA, loraB, magnitude: m, scaling: 1, norm });
    };
    const trained = [x, a, b, magnitude] as tf.Tensor[];
    return backward(layer as (...inputs: tf.Tensor[]) => tf.Tensor, trained, dy as tf.Tensor);
  },
  flops: ({ m, k, n, r }) => 4 * m * k * n + 8 * m * r * (k + n),
  bytes: ({ m, k, n }, width) => width * (3 * m * k + 3 * k * n + 3 * m * n),
  peers: ({ m, k, n, r }) => ({
    peft: { script: FUSED, case: { kind: 'dora', rows: m, inputs: k, outputs: n, rank: r } },
  }),
  tolerance: 1e-4,
});

/** The update of ITI-GEN: 108 prompts = 2 x 6 x 9 categories. */
const direction = defineFamily({
  name: 'directionAlignment',
  kernels: ['DirectionAlignmentLoss'],
  sizes: [{ before: 2, categories: 6, after: 9, depth: 768 }],
  checks: [{ before: 2, categories: 3, after: 2, depth: 13 }],
  precisions: ['f32'],
  label: ({ before, categories, after, depth }) => `fwd+bwd ${before * categories * after}x${depth}`,
  inputs: ({ before, categories, after, depth }) => [
    { shape: [before * categories * after, depth], role: 'activation' },
    { shape: [depth], role: 'vector' },
    { shape: [categories, depth], role: 'vector' },
  ],
  compute: ([text, original, imageMeans], { before, categories, after }) =>
    tf.grad(
      (x) =>
        directionAlignmentLoss({
          text: x,
          original: original as tf.Tensor,
          imageMeans: imageMeans as tf.Tensor,
          categories: [before as number, categories as number, after as number],
          attribute: 1,
          consistency: 0.8,
        }).loss,
    )(text as tf.Tensor),
  flops: () => 0,
  bytes: ({ before, categories, after, depth }, width) => 2 * width * before * categories * after * depth,
  peers: ({ before, categories, after, depth }) => ({
    'published loop': {
      script: FUSED,
      case: { kind: 'direction', categories: [before, categories, after], attribute: 1, depth },
    },
  }),
  tolerance: 1e-4,
});

export const trainingFamilies: readonly KernelFamily[] = [frozen, dora, direction];
