import type { Handle } from '../binding.js';

/** batch, inHeight, inWidth, outHeight, outWidth, channels: the image and its resized form, in both directions. */
export type ResizeSizes = readonly [number, number, number, number, number, number];

/**
 * batch, inHeight, inWidth, channels, outHeight, outWidth, height, width, strideY, strideX, dilationY, dilationX,
 * padTop, padLeft
 */
export type PoolWindow = readonly number[];

/** Native kernels in native/kernels/image and native/kernels/pool, on NHWC tensors. */
export interface ImageOps {
  resize(
    x: Handle,
    bilinear: boolean,
    backward: boolean,
    alignCorners: boolean,
    halfPixel: boolean,
    sizes: ResizeSizes,
  ): Handle;
  maxPool(x: Handle, window: PoolWindow): Handle;
  avgPool(x: Handle, window: PoolWindow): Handle;
  maxPoolGrad(x: Handle, dy: Handle, window: PoolWindow): Handle;
  avgPoolGrad(x: null, dy: Handle, window: PoolWindow): Handle;
}
