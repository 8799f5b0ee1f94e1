/** Inputs of the kernels' tests. */
import type * as tf from '@tensorflow/tfjs-core';
import { currentDevice, type EquipoiseBackend } from '../index.js';

/** Numbers that bf16 holds exactly, so that storage changes nothing but the precision of results. */
export function numbers(n: number, seed = 1): Float32Array {
  let state = seed >>> 0;
  return Float32Array.from({ length: n }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return ((state >>> 16) % 256) / 16 - 8;
  });
}
/** How a tensor lies on the current device. */
export const storageOf = (x: tf.Tensor): string => {
  const device = currentDevice() as EquipoiseBackend;
  return device.native.info(device.handle(x, 'test')).storage;
};
