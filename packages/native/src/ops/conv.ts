import type { Handle } from '../binding.js';
import type { FusedActivation } from './gemm.js';

/**
 * Strides, dilations, padding before the first row and column, and the output's size; the gradients take the latter
 * from dy.
 */
export type ConvWindow = [
  strideHeight: number,
  strideWidth: number,
  dilationHeight: number,
  dilationWidth: number,
  top: number,
  left: number,
  outHeight: number,
  outWidth: number,
];

/** Native kernels in native/kernels/conv: images NHWC, filters HWIO. */
export interface ConvOps {
  /** act(x * filter + bias + addend); the addend has the result's shape, which is stored as f32 where the addend is. */
  conv2d(
    x: Handle,
    filter: Handle,
    window: ConvWindow,
    bias: Handle | null,
    activation: FusedActivation,
    leak: number,
    prelu: Handle | null,
    storeF32: boolean,
    addend: Handle | null,
  ): Handle;
  conv2dGradInput(dy: Handle, filter: Handle, inputShape: readonly number[], window: ConvWindow): Handle;
  /** Stored as f32. */
  conv2dGradFilter(x: Handle, dy: Handle, filterShape: readonly number[], window: ConvWindow): Handle;
}
