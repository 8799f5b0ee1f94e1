/** Pictures on either side of the autoencoder, for pipelines with latents scaled as the model takes them. */
import { join } from 'node:path';
import { invalid, prose, writeFileAtomic } from '@equipoise/core';
import { encodePng, type TextToImagePipeline } from '@equipoise/diffusion';
import type { RgbImage } from '@equipoise/models';
import * as tf from '@tensorflow/tfjs-core';
import type { DiffusionParts } from './parts.js';

/** Turns latents [N, h, w, c] into pictures. */
export type Decode = (latents: tf.Tensor4D) => Promise<RgbImage[]>;

/** Turns a picture of the model's size into latents [1, h, w, c]. */
export type Encode = (image: RgbImage, name: string) => tf.Tensor4D;

export function decoderOf(pipeline: TextToImagePipeline): Decode {
  return (latents) => pipeline.decode(latents);
}

/**
 * The mode of the autoencoder's posterior, scaled.
 *
 * @throws EquipoiseError `invalid` for a picture of another size than the model draws
 */
export function encoderOf(pipeline: TextToImagePipeline, parts: Pick<DiffusionParts, 'latentShape'>): Encode {
  const { vae } = pipeline.parts;
  const [height, width] = parts.latentShape.map((side) => side * vae.downscale) as [number, number, number];
  return (image, name) => {
    if (image.width !== width || image.height !== height)
      throw invalid(
        name,
        `${width} x ${height} pixels, the size the model draws`,
        prose(`${image.width} x ${image.height}`),
      );
    return tf.tidy(() => {
      const bytes = tf.tensor4d(Float32Array.from(image.data), [1, height, width, 3]);
      const pixels = tf.sub(tf.div(bytes, 127.5), 1) as tf.Tensor4D;
      return vae.toModelLatents(vae.encode(pixels).mode());
    });
  };
}

/** Small letters, digits and hyphens of a text, as a part of a file name. */
export function slug(text: string): string {
  return text
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-|-$/g, '')
    .slice(0, 60);
}

/** File name of a candidate's picture. */
export function pictureName(promptIndex: number, prompt: string, candidate: number): string {
  return `${String(promptIndex).padStart(5, '0')}-${slug(prompt)}-${String(candidate).padStart(5, '0')}.png`;
}

/** Writes a picture whose PNG says what it is. */
export async function writePicture(
  folder: string,
  image: RgbImage,
  about: { prompt: string; promptIndex: number; candidate: number; seed: number; mi: number },
): Promise<void> {
  const { promptIndex, prompt, candidate } = about;
  const png = await encodePng(image, about);
  await writeFileAtomic(join(folder, pictureName(promptIndex, prompt, candidate)), png);
}
