import type { Handle } from '../binding.js';

/** Native kernels in native/kernels/optimizer and native/kernels/random. */
export interface TrainingOps {
  /** Updates p, m and v of [p, g, m, v, ...] in place; returns the gradient norm. maxNorm 0 does not clip. */
  adamW(
    tensors: readonly Handle[],
    step: number,
    learningRate: number,
    beta1: number,
    beta2: number,
    epsilon: number,
    weightDecay: number,
    maxNorm: number,
    gradientScale: number,
  ): Handle;
  /** Philox 4x32-10 numbers `offset`, `offset + 1`, ... of a stream; seed and stream as 32-bit words. */
  philox(
    shape: readonly number[],
    seedLow: number,
    seedHigh: number,
    streamLow: number,
    streamHigh: number,
    offset: number,
    normal: boolean,
  ): Handle;
}
