/** The small pipeline that the tests of this package run on. */
import { parseSchedulerConfig, type TextToImagePipeline } from '@equipoise/diffusion';
import { fixturesOf } from '@equipoise/testing';
import type { DiffusionParts } from './parts.js';

export async function smallParts(
  sampler: 'DDPMScheduler' | 'DDIMScheduler' = 'DDPMScheduler',
): Promise<DiffusionParts> {
  const folder = fixturesOf(import.meta.resolve('@equipoise/diffusion')).path('sd');
  const { loadPipeline } = await import('@equipoise/diffusion');
  const { parts } = (await loadPipeline(folder, { storage: 'f32' })) as TextToImagePipeline;
  const side = parts.unet.config.sample_size as number;
  const { config: scheduler } = parseSchedulerConfig(parts.scheduler, { as: sampler, pipeline: 'sd' });
  return {
    unet: parts.unet,
    textEncoder: parts.textEncoder,
    tokenizer: parts.tokenizer,
    scheduler,
    hash: 'fixture',
    latentShape: [side, side, parts.unet.config.in_channels],
  };
}
