/**
 * A linear layer with bias and activation in the epilogue.
 *
 *   x [..., K] seen as M rows;  weight [N, K] as PyTorch stores it;  y = act(x W^T + b)  [..., N]
 *   dx = dy W  [M,K];  dW = dy^T x  [N,K];  db = sum_rows dy  [N]
 *
 * The activation's derivative needs the pre-activation. Under a gradient tape the activation therefore runs as its
 * own kernel, with its own gradient, instead of recomputing the product; without a tape it is fused.
 *
 * FLOPs: 2 M N K forward, as much again for each of dx and dW. Bytes: x, W, b read, y written, once each.
 */
import * as tf from '@tensorflow/tfjs-core';
import { ACTIVATIONS, type Activation, activate, composeActivation } from './activation.js';
import { checkOneOf, checkTensor, rangeError } from './checks.js';
import { defineKernel } from './define.js';

/** Inputs of the kernel `Linear`; bias is absent, not null, where the layer has none. */
export interface LinearInputs {
  x: tf.Tensor;
  weight: tf.Tensor;
  bias?: tf.Tensor;
}

/** A tensor [..., C] as its rows [M, C]; C may be zero. */
export function asRows(x: tf.Tensor): tf.Tensor2D {
  return tf.reshape(x, [x.shape.slice(0, -1).reduce((a, b) => a * b, 1), x.shape[x.rank - 1] as number]);
}

const runGradWeight = defineKernel<{ dy: tf.Tensor; x: tf.Tensor }, object>({
  name: 'LinearGradWeight',
  portable: ({ dy, x }) => tf.matMul(dy as tf.Tensor2D, x as tf.Tensor2D, true, false),
});

/** dW = dy^T x [N,K] of dy [M,N] and x [M,K]: natively always stored in f32, as gradients of trained weights are. */
export function linearGradWeight(dy: tf.Tensor2D, x: tf.Tensor2D): tf.Tensor {
  return runGradWeight({ dy, x }, {});
}

const runLinear = defineKernel<LinearInputs, { activation: Activation }>({
  name: 'Linear',
  portable({ x, weight, bias }, { activation }) {
    const shape = [...x.shape.slice(0, -1), weight.shape[0] as number];
    const product = tf.matMul(asRows(x), weight as tf.Tensor2D, false, true);
    const sum = bias === undefined ? product : tf.add(product, bias);
    return tf.reshape(composeActivation(sum, activation), shape);
  },
  gradient: {
    inputsToSave: ['x', 'weight'],
    backward([dy], saved, { activation }) {
      if (activation !== 'none') throw new Error('Linear: a fused activation has no gradient: use linear()');
      const [x, weight] = saved as [tf.Tensor, tf.Tensor2D];
      const rows = asRows(dy as tf.Tensor);
      return {
        x: () => tf.reshape(tf.matMul(rows, weight), x.shape),
        weight: () => linearGradWeight(rows, asRows(x)),
        bias: () => tf.sum(rows, 0),
      };
    },
  },
});

/**
 * Linear layer: activation(x weight^T + bias).
 *
 * @param x [..., K], rank at least 1
 * @param weight [N, K]
 * @param bias [N] or null
 * @returns [..., N]
 * @throws TypeError on a wrong kind of argument, RangeError on shapes that do not fit
 */
export function linear<T extends tf.Tensor>(
  x: T,
  weight: tf.Tensor,
  bias: tf.Tensor | null = null,
  activation: Activation = 'none',
): T {
  const op = 'linear';
  checkOneOf(op, 'activation', activation, ACTIVATIONS);
  checkTensor(op, 'x', x);
  if (x.rank < 1) throw rangeError(op, 'x', 'rank at least 1', x);
  checkTensor(op, 'weight', weight, [null, x.shape[x.rank - 1] as number]);
  if (bias !== null) checkTensor(op, 'bias', bias, [weight.shape[0] as number]);
  const inputs: LinearInputs = bias === null ? { x, weight } : { x, weight, bias };
  if (activation !== 'none' && tf.engine().isTapeOn()) {
    return activate(runLinear<T>(inputs, { activation: 'none' }), activation);
  }
  return runLinear<T>(inputs, { activation });
}
