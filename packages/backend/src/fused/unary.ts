/** What the elementwise fused activations share: y = f(x), dx = dy f'(x), both one pass. */
import type * as tf from '@tensorflow/tfjs-core';
import { checkTensor } from './checks.js';
import { defineKernel } from './define.js';

/**
 * Defines the kernels `name` (input x) and `nameGrad` (inputs x, dy) of an elementwise function.
 * Returns the public op.
 */
export function defineUnary(
  op: string,
  name: string,
  value: (x: tf.Tensor) => tf.Tensor,
  backward: (x: tf.Tensor, dy: tf.Tensor) => tf.Tensor,
): <T extends tf.Tensor>(x: T) => T {
  const runGrad = defineKernel<{ x: tf.Tensor; dy: tf.Tensor }, object>({
    name: `${name}Grad`,
    portable: ({ x, dy }) => backward(x, dy),
  });
  const run = defineKernel<{ x: tf.Tensor }, object>({
    name,
    portable: ({ x }) => value(x),
    gradient: {
      inputsToSave: ['x'],
      backward: ([dy], [x]) => ({ x: () => runGrad({ x: x as tf.Tensor, dy: dy as tf.Tensor }, {}) }),
    },
  });
  return <T extends tf.Tensor>(x: T): T => {
    checkTensor(op, 'x', x);
    return run<T>({ x }, {});
  };
}
