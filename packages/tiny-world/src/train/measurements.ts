/** Measurements that both training and verification make. */
import type { AutoencoderKL, CLIPModel, ClipTokenizer } from '@equipoise/models';
import * as tf from '@tensorflow/tfjs-core';
import type { Dataset } from '../data/dataset.js';
import { pictureTensor } from '../data/pictures.js';
import { tokenRows } from './stage-context.js';

const RETRIEVAL_PROBES = 256;
const RECONSTRUCTION_PROBES = 64;

function firstIndices(count: number, data: Dataset): number[] {
  return Array.from({ length: Math.min(count, data.samples.length) }, (_, index) => index);
}

/** Share of 256 test pictures whose most similar caption, of all their captions, reads as their own. */
export async function clipRetrieval(
  model: CLIPModel,
  tokenizer: ClipTokenizer,
  test: Dataset,
): Promise<number> {
  const indices = firstIndices(RETRIEVAL_PROBES, test);
  const captions = indices.map((index) => test.samples[index]!.caption);
  const rows = tokenRows(tokenizer, captions);
  const best = tf.tidy(() =>
    tf.argMax(model.forward(rows, pictureTensor(test.images, indices)).logitsPerImage, 1),
  );
  const choices = await best.data();
  best.dispose();
  return (
    indices.filter((index) => captions[choices[index] as number] === captions[index]).length / indices.length
  );
}

/** Reconstructions of the first test pictures [64, 64, 64, 3], clamped; the caller disposes of them. */
export function reconstruct(model: AutoencoderKL, test: Dataset): tf.Tensor4D {
  return tf.tidy(() => {
    const pictures = pictureTensor(test.images, firstIndices(RECONSTRUCTION_PROBES, test));
    return tf.clipByValue(model.decode(model.encode(pictures).mode()), -1, 1) as tf.Tensor4D;
  });
}

/** Peak signal-to-noise ratio in dB of the reconstructions of 64 test pictures. */
export async function reconstructionPsnr(model: AutoencoderKL, test: Dataset): Promise<number> {
  const error = tf.tidy(() => {
    const pictures = pictureTensor(test.images, firstIndices(RECONSTRUCTION_PROBES, test));
    return tf.mean(tf.square(tf.div(tf.sub(reconstruct(model, test), pictures), 2)));
  });
  const [value] = await error.data();
  error.dispose();
  return -10 * Math.log10(value as number);
}
