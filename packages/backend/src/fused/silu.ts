/**
 * SiLU (Elfwing et al. 2017; Ramachandran et al. 2017):  y = x s(x), s = sigmoid;  dy/dx = s (1 + x (1 - s)).
 * Bytes: x read, y written (8 per element in f32; backward 12). FLOPs: an exponential and a division each.
 */
import * as tf from '@tensorflow/tfjs-core';
import { defineUnary } from './unary.js';

/** The derivative of SiLU at x, as ordinary ops. */
export function siluDerivative(x: tf.Tensor): tf.Tensor {
  const s = tf.sigmoid(x);
  return tf.mul(s, tf.add(1, tf.mul(x, tf.sub(1, s))));
}

/**
 * SiLU, elementwise: x * sigmoid(x).
 * @throws TypeError unless x is a live float32 tensor
 */
export const silu = defineUnary(
  'silu',
  'Silu',
  (x) => tf.mul(x, tf.sigmoid(x)),
  (x, dy) => tf.mul(dy, siluDerivative(x)),
);
