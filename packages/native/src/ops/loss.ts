import type { Handle } from '../binding.js';

/** Native kernels in native/kernels/loss. */
export interface LossOps {
  /** [loss, dtext, parts, pairCosine] */
  directionAlignment(
    text: Handle,
    original: Handle,
    imageMeans: Handle,
    before: number,
    categories: number,
    after: number,
    consistency: number,
    present: readonly number[],
  ): [Handle, Handle, Handle, Handle];
}
