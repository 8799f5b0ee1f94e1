/** The embedded model in the forms that both pipelines take. */
import { join } from 'node:path';
import type { JobContext } from '@equipoise/core';
import type { TextToImagePipeline } from '@equipoise/diffusion';
import { type LoadedClip, loadClip } from '@equipoise/iti-gen';
import { type DiffusionParts, openParts } from '@equipoise/mi-tune';
import type { RgbImage } from '@equipoise/models';
import { IMAGE_BYTES, type Judges, loadJudges, SHIPPED_WEIGHTS } from '@equipoise/tiny-world';

export interface Embedded {
  /** Folder of the weights. */
  readonly weights: string;
  readonly clip: LoadedClip;
  readonly parts: DiffusionParts;
  readonly pipeline: TextToImagePipeline;
  readonly judges: Judges;
}

/** Loads the weights that come with the repository, or others in the same layout. */
export async function loadEmbedded(weights = SHIPPED_WEIGHTS, context: JobContext = {}): Promise<Embedded> {
  const { parts, pipeline } = await openParts(weights, { sampler: 'ddim', ...context });
  const clip = await loadClip(join(weights, 'clip'), { otherwise: join(weights, 'tokenizer') });
  return { weights, parts, pipeline, clip, judges: await loadJudges(weights) };
}

/** Pictures one after the other, as the judges take them. */
export function packed(images: readonly RgbImage[]): Uint8Array {
  const bytes = new Uint8Array(images.length * IMAGE_BYTES);
  for (const [i, image] of images.entries()) bytes.set(image.data, i * IMAGE_BYTES);
  return bytes;
}
