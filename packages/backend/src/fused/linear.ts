/**
 * A linear layer with bias, activation and residual in the epilogue.
 *
 *   x [..., K] seen as M rows;  weight [N, K] as PyTorch stores it;  y = act(x W^T + b) + r  [..., N]
 *   dx = dy W  [M,K];  dW = dy^T x  [N,K];  db = sum_rows dy  [N];  dr = dy
 *
 * The activation's derivative needs the pre-activation. Under a gradient tape the activation therefore runs as its
 * own kernel, with its own gradient, instead of recomputing the product; without a tape it is fused.
 *
 * FLOPs: 2 M N K forward, as much again for each of dx and dW. Bytes: x, W, b, r read, y written, once each.
 */
import * as tf from '@tensorflow/tfjs-core';
import { ACTIVATIONS, type Activation, activate, composeActivation } from './activation.js';
import { checkKeys, checkOneOf, checkTensor, rangeError } from './checks.js';
import { defineKernel } from './define.js';

/** Inputs of the kernel `Linear`; bias and residual are absent, not null, where there is none. */
export interface LinearInputs {
  x: tf.Tensor;
  weight: tf.Tensor;
  bias?: tf.Tensor;
  residual?: tf.Tensor;
}

/** What {@link linear} and {@link conv2d} do with their sums before they are stored. */
export interface ProductOptions {
  /** Added to the result, whose shape it has, before that is rounded; not together with an activation. */
  residual?: tf.Tensor | null;
  /**
   * True stores the result as f32 whatever the factors are stored as. Otherwise it is bf16 where a factor is and the
   * residual, if there is one, is no f32. Engines that know only f32 ignore it.
   */
  wide?: boolean;
}

/** Checks the residual of a result of shape `shape`. */
export function checkResidual(
  op: string,
  residual: tf.Tensor | null | undefined,
  activation: Activation,
  shape: readonly number[],
): void {
  if (residual == null) return;
  checkTensor(op, 'residual', residual, shape);
  if (activation !== 'none') throw rangeError(op, 'activation', "'none' beside a residual", activation);
}

/** A tensor [..., C] as its rows [M, C]; C may be zero. */
export function asRows(x: tf.Tensor): tf.Tensor2D {
  return tf.reshape(x, [tf.util.sizeFromShape(x.shape.slice(0, -1)), x.shape[x.rank - 1] as number]);
}

const runGradWeight = defineKernel<{ dy: tf.Tensor; x: tf.Tensor }, object>({
  name: 'LinearGradWeight',
  portable: ({ dy, x }) => tf.matMul(dy as tf.Tensor2D, x as tf.Tensor2D, true, false),
});

/** dW = dy^T x [N,K] of dy [M,N] and x [M,K]: natively always stored in f32, as gradients of trained weights are. */
export function linearGradWeight(dy: tf.Tensor2D, x: tf.Tensor2D): tf.Tensor {
  return runGradWeight({ dy, x }, {});
}

const runLinear = defineKernel<LinearInputs, { activation: Activation; wide: boolean }>({
  name: 'Linear',
  portable({ x, weight, bias, residual }, { activation }) {
    const shape = [...x.shape.slice(0, -1), weight.shape[0] as number];
    const product = tf.matMul(asRows(x), weight as tf.Tensor2D, false, true);
    const sum = bias === undefined ? product : tf.add(product, bias);
    const y = tf.reshape(composeActivation(sum, activation), shape);
    return residual === undefined ? y : tf.add(y, residual);
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
        residual: () => tf.clone(dy as tf.Tensor),
      };
    },
  },
});

/**
 * Linear layer: activation(x weight^T + bias), or x weight^T + bias + residual.
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
  options: ProductOptions = {},
): T {
  const op = 'linear';
  checkKeys(op, options, ['residual', 'wide']);
  const { residual = null, wide = false } = options;
  checkOneOf(op, 'activation', activation, ACTIVATIONS);
  checkTensor(op, 'x', x);
  if (x.rank < 1) throw rangeError(op, 'x', 'rank at least 1', x);
  checkTensor(op, 'weight', weight, [null, x.shape[x.rank - 1] as number]);
  if (bias !== null) checkTensor(op, 'bias', bias, [weight.shape[0] as number]);
  checkResidual(op, residual, activation, [...x.shape.slice(0, -1), weight.shape[0] as number]);
  const inputs: LinearInputs = { x, weight, ...(bias && { bias }), ...(residual && { residual }) };
  if (activation !== 'none' && tf.engine().isTapeOn()) {
    return activate(runLinear<T>(inputs, { activation: 'none', wide }), activation);
  }
  return runLinear<T>(inputs, { activation, wide });
}
