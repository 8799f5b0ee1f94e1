/** Pixels for FID's Inception: the two ways that published numbers were made with. */
import { invalid } from '@equipoise/core';
import * as tf from '@tensorflow/tfjs-core';
import { type RgbImage, resizeBicubicFloat } from '../image/index.js';

/** Side of the square the network sees. */
export const INCEPTION_SIDE = 299;

/**
 * `clean` (clean-fid): antialiased bicubic on floating-point pixels, (x - 128) / 128. `pytorch-fid`: bilinear without
 * antialiasing, 2 x / 255 - 1. Numbers of one are not comparable with those of the other (Parmar et al. 2022).
 */
export const INCEPTION_RESIZES = ['clean', 'pytorch-fid'] as const;
export type InceptionResize = (typeof INCEPTION_RESIZES)[number];

/** [images, 299, 299, 3] in about [-1, 1]; every image is stretched to the square. */
export function inceptionPixels(images: readonly RgbImage[], resize: InceptionResize): tf.Tensor4D {
  if (images.length === 0) throw invalid('images', 'at least one', images.length);
  return tf.tidy(
    () =>
      tf.stack(images.map((image) => (resize === 'clean' ? clean(image) : bilinear(image)))) as tf.Tensor4D,
  );
}

function clean(image: RgbImage): tf.Tensor3D {
  const values = resizeBicubicFloat(image, INCEPTION_SIDE, INCEPTION_SIDE);
  for (const [i, value] of values.entries()) values[i] = (Math.min(255, Math.max(0, value)) - 128) / 128;
  return tf.tensor3d(values, [INCEPTION_SIDE, INCEPTION_SIDE, 3]);
}

function bilinear({ width, height, data }: RgbImage): tf.Tensor3D {
  const unit = tf.tensor3d(
    Float32Array.from(data, (byte) => byte / 255),
    [height, width, 3],
  );
  // Half-pixel centres are torch's align_corners=False.
  const resized = tf.image.resizeBilinear(unit, [INCEPTION_SIDE, INCEPTION_SIDE], false, true);
  return tf.sub(tf.mul(resized, 2), 1);
}
