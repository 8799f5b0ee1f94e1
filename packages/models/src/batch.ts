/**
 * Joining tensors whose batches differ by a whole factor. With classifier-free guidance both branches see the
 * same latent, so everything before the first use of the text is computed once and repeated where the
 * branches part: [x] against [uncond; cond] becomes [x; x].
 */
import { invalid } from '@equipoise/core';
import * as tf from '@tensorflow/tfjs-core';

/** Repeats `x` along axis 0 as whole copies until its batch is `batch`; `x` itself when it already is. */
export function repeatBatch<T extends tf.Tensor>(x: T, batch: number): T {
  const own = x.shape[0] as number;
  if (own === batch) return x;
  if (own === 0 || batch % own !== 0) {
    throw invalid('batch', `a multiple of ${own}`, batch);
  }
  return tf.concat(
    Array.from({ length: batch / own }, () => x),
    0,
  );
}

/** a + b, the one of smaller batch repeated. */
export function addBatched<T extends tf.Tensor>(a: T, b: T): T {
  const batch = Math.max(a.shape[0] as number, b.shape[0] as number);
  return tf.tidy(() => tf.add(repeatBatch(a, batch), repeatBatch(b, batch)) as T);
}

/** Concatenation on the channel axis, the one of smaller batch repeated. */
export function concatChannels(a: tf.Tensor4D, b: tf.Tensor4D): tf.Tensor4D {
  const batch = Math.max(a.shape[0], b.shape[0]);
  return tf.tidy(() => tf.concat([repeatBatch(a, batch), repeatBatch(b, batch)], 3));
}
