/** How a float32 tensor lies in device memory: f32, or bf16 at half the bytes and 8 bits of precision. */
import * as tf from '@tensorflow/tfjs-core';
import type { Precision } from './engine.js';
import { checkTensor, rangeError } from './fused/checks.js';
import { defineKernel } from './fused/define.js';

const run = defineKernel<{ x: tf.Tensor }, { storage: Precision }>({
  name: 'ToStorage',
  portable: ({ x }) => tf.clone(x),
  gradient: { backward: ([dy]) => ({ x: () => dy as tf.Tensor }) },
});

/**
 * The same float32 tensor stored as `storage`; bf16 rounds to nearest even. The gradient passes through unchanged.
 * Engines that know only f32 give the tensor itself.
 *
 * @throws TypeError when x is no float32 tensor, RangeError for any other storage
 */
export function toStorage<T extends tf.Tensor>(x: T, storage: Precision): T {
  checkTensor('toStorage', 'x', x);
  if (storage !== 'f32' && storage !== 'bf16')
    throw rangeError('toStorage', 'storage', 'f32 or bf16', storage);
  return run<T>({ x }, { storage });
}
