/**
 * QuickGELU, the activation of OpenAI's CLIP:  y = x s(1.702 x);  dy/dx = s (1 + 1.702 x (1 - s)), s = sigmoid.
 * It differs from GELU by up to 2e-2. Bytes: x read, y written (8 per element in f32; backward 12).
 */
import * as tf from '@tensorflow/tfjs-core';
import { defineUnary } from './unary.js';

const ALPHA = 1.702;

/** QuickGELU as ordinary ops. */
export function quickGeluValue(x: tf.Tensor): tf.Tensor {
  return tf.mul(x, tf.sigmoid(tf.mul(x, ALPHA)));
}

/**
 * QuickGELU, elementwise: x * sigmoid(1.702 x).
 * @throws TypeError unless x is a live float32 tensor
 */
export const quickGelu = defineUnary('quickGelu', 'QuickGelu', quickGeluValue, (x, dy) => {
  const ax = tf.mul(x, ALPHA);
  const s = tf.sigmoid(ax);
  return tf.mul(dy, tf.mul(s, tf.add(1, tf.mul(ax, tf.sub(1, s)))));
});
