import type { Handle } from '../binding.js';

/** Native kernels in native/kernels/elementwise. */
export interface ElementwiseOps {
  clip(x: Handle, low: number, high: number): Handle;
}
