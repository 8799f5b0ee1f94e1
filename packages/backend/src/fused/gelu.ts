/**
 * GELU in its exact form (Hendrycks and Gimpel, 2016):
 *   y = x F(x),  F(x) = (1 + erf(x / sqrt 2)) / 2,  dy/dx = F(x) + x f(x),  f(x) = exp(-x^2 / 2) / sqrt(2 pi)
 * The tanh approximation differs by up to 4.7e-4 and is not used.
 * Bytes: x read, y written (8 per element in f32; backward 12).
 */
import * as tf from '@tensorflow/tfjs-core';
import { defineUnary } from './unary.js';

const normalCdf = (x: tf.Tensor): tf.Tensor => tf.mul(0.5, tf.add(1, tf.erf(tf.mul(x, Math.SQRT1_2))));

/** GELU as ordinary ops. */
export function geluValue(x: tf.Tensor): tf.Tensor {
  return tf.mul(x, normalCdf(x));
}

/** The derivative of GELU at x, as ordinary ops. */
export function geluDerivative(x: tf.Tensor): tf.Tensor {
  const density = tf.mul(1 / Math.sqrt(2 * Math.PI), tf.exp(tf.mul(-0.5, tf.square(x))));
  return tf.add(normalCdf(x), tf.mul(x, density));
}

/**
 * Exact GELU, elementwise.
 * @throws TypeError unless x is a live float32 tensor
 */
export const gelu = defineUnary('gelu', 'Gelu', geluValue, (x, dy) => tf.mul(dy, geluDerivative(x)));
