/** The parts of a pipeline folder, ready for estimation and tuning. */
import { join } from 'node:path';
import { EquipoiseError, invalid, type JobContext, sha256Json } from '@equipoise/core';
import {
  loadPipeline,
  parseSchedulerConfig,
  type SamplerName,
  samplerClasses,
  type TextToImagePipeline,
} from '@equipoise/diffusion';
import type { WeightStorage } from '@equipoise/models';
import { hashFolder } from '@equipoise/weights';
import type { DiffusionParts } from './parts.js';

export interface OpenPartsOptions extends JobContext {
  /** Sampler of the candidates; default: the one the model was saved with. MI-TUNE's published runs use ddpm. */
  readonly sampler?: SamplerName | undefined;
  readonly storage?: WeightStorage;
}

/**
 * Loads a Stable Diffusion 1 or 2 folder.
 *
 * @throws EquipoiseError `unsupported` for Stable Diffusion XL, whose second text tower the estimator does not take yet
 */
export async function openParts(
  folder: string,
  { sampler, storage, ...context }: OpenPartsOptions = {},
): Promise<{ parts: DiffusionParts; pipeline: TextToImagePipeline }> {
  const pipeline = await loadPipeline(folder, { ...context, ...(storage !== undefined && { storage }) });
  if (pipeline.isXl)
    throw new EquipoiseError(
      'unsupported',
      `${folder}: expected a pipeline with one text encoder, got ${pipeline.className}`,
    );
  const { unet, textEncoder, tokenizer } = pipeline.parts;
  const { sample_size: size, in_channels: channels } = unet.config;
  const sides = typeof size === 'number' ? [size, size] : size;
  if (sides?.length !== 2) throw invalid(`${folder}: unet sample_size`, 'one or two sides', size);
  const { config: scheduler } = parseSchedulerConfig(pipeline.parts.scheduler, {
    pipeline: 'sd',
    ...(sampler !== undefined && { as: samplerClasses[sampler] }),
  });
  const hash = sha256Json({
    unet: await hashFolder(join(folder, 'unet')),
    text: await hashFolder(join(folder, 'text_encoder')),
    scheduler,
  });
  const vaeHash = await hashFolder(join(folder, 'vae'));
  const latentShape: DiffusionParts['latentShape'] = [sides[0] as number, sides[1] as number, channels];
  return { parts: { unet, textEncoder, tokenizer, scheduler, hash, vaeHash, latentShape }, pipeline };
}
