/** What the self-demonstration computes: one case per kind of work that text-to-image models are made of. */
import { attention, conv2d, geglu, groupNorm, layerNorm, linear } from '@equipoise/backend';
import { PhiloxStream } from '@equipoise/core';
import * as tf from '@tensorflow/tfjs-core';

export interface DemoCase {
  readonly name: string;
  /** Shapes of the inputs; their values are standard normal, the same on every engine. */
  readonly inputs: readonly (readonly number[])[];
  compute(...inputs: tf.Tensor[]): tf.Tensor;
}

const IMAGE = [1, 32, 32, 64] as const;
const TOKENS = [1, 256, 256] as const;

/** Gradients of `f` with respect to all inputs, as one list of numbers. */
function gradients(f: (...inputs: tf.Tensor[]) => tf.Tensor): (...inputs: tf.Tensor[]) => tf.Tensor {
  return (...inputs) => {
    const grads = tf.grads((...xs: tf.Tensor[]) => tf.sum(tf.square(f(...xs))))(inputs);
    return tf.concat(grads.map((g) => tf.reshape(g, [-1])));
  };
}

const feedForward = (x: tf.Tensor, w: tf.Tensor, b: tf.Tensor): tf.Tensor =>
  geglu(linear(x, w, b as tf.Tensor1D));

export const demoCases: readonly DemoCase[] = [
  {
    name: 'matrix product 256 x 512 x 512',
    inputs: [
      [256, 512],
      [512, 512],
    ],
    compute: (a, b) => tf.matMul(a, b),
  },
  {
    name: 'convolution 3x3, 32 x 32, 64 -> 64',
    inputs: [IMAGE, [3, 3, 64, 64], [64]],
    compute: (x, w, b) => conv2d(x as tf.Tensor4D, w as tf.Tensor4D, b as tf.Tensor1D, { pad: 'same' }),
  },
  {
    name: 'attention, 4 heads, 256 tokens',
    inputs: [TOKENS, TOKENS, TOKENS],
    compute: (q, k, v) => attention(q as tf.Tensor3D, k as tf.Tensor3D, v as tf.Tensor3D, { heads: 4 }),
  },
  {
    name: 'group norm with SiLU',
    inputs: [IMAGE, [64], [64]],
    compute: (x, g, b) =>
      groupNorm(x, g as tf.Tensor1D, b as tf.Tensor1D, { groups: 32, epsilon: 1e-5, activation: 'silu' }),
  },
  {
    name: 'layer norm',
    inputs: [TOKENS, [256], [256]],
    compute: (x, g, b) => layerNorm(x, g as tf.Tensor1D, b as tf.Tensor1D, { epsilon: 1e-5 }),
  },
  { name: 'feed-forward with GEGLU', inputs: [TOKENS, [512, 256], [512]], compute: feedForward },
  { name: 'its gradients', inputs: [[1, 64, 128], [256, 128], [256]], compute: gradients(feedForward) },
];

/** The inputs of a case on the current engine, scaled so that sums over an axis stay near one. */
export function demoInputs(demo: DemoCase, seed: number): tf.Tensor[] {
  return demo.inputs.map((shape, i) => {
    const size = shape.reduce((a, b) => a * b, 1);
    const values = new PhiloxStream(seed, i).fillNormal(new Float32Array(size));
    const fan = shape.length === 1 ? 1 : size / (shape.at(-1) as number);
    const scale = i === 0 || shape.length === 1 ? 1 : 1 / Math.sqrt(Math.min(fan, 512));
    return tf.tensor(
      values.map((v) => v * scale),
      [...shape],
      'float32',
    );
  });
}
