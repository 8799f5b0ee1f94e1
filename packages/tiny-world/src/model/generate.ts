/** Pictures from prompts with the embedded model, in batches, as bytes. */
import { type JobContext, throwIfCancelled } from '@equipoise/core';
import type { TextToImagePipeline } from '@equipoise/diffusion';
import { IMAGE_BYTES } from '../world/render.js';

export interface GenerateOptions extends JobContext {
  /** Picture i starts from the noise of seed + i: it depends on neither the batch nor the other prompts. */
  readonly seed: number;
  readonly steps: number;
  readonly guidance: number;
  /** Pictures made together. Default 32. */
  readonly batch?: number;
}

/** One picture for each prompt, [N, 64, 64, 3] bytes. */
export async function generate(
  pipeline: TextToImagePipeline,
  prompts: readonly string[],
  { seed, steps, guidance, batch = 32, signal, onProgress }: GenerateOptions,
): Promise<Uint8Array> {
  const images = new Uint8Array(prompts.length * IMAGE_BYTES);
  for (let start = 0; start < prompts.length; start += batch) {
    throwIfCancelled(signal, 'generate');
    const prompt = prompts.slice(start, start + batch);
    const result = await pipeline.generate({ prompt }, { steps, guidance, seed: seed + start }, { signal });
    result.latents.dispose();
    result.images.forEach((image, index) => {
      images.set(image.data, (start + index) * IMAGE_BYTES);
    });
    onProgress?.({ task: 'generate', done: start + prompt.length, total: prompts.length, unit: 'image' });
  }
  return images;
}
