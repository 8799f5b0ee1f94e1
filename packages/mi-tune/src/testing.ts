/** The small pipeline that the tests of this package run on. */
import { parseSchedulerConfig, type TextToImagePipeline } from '@equipoise/diffusion';
import { fixturesOf } from '@equipoise/testing';
import type { DiffusionParts } from './parts.js';

export async function smallPipeline(
  sampler: 'DDPMScheduler' | 'DDIMScheduler' = 'DDPMScheduler',
): Promise<{ parts: DiffusionParts; pipeline: TextToImagePipeline }> {
  const folder = fixturesOf(import.meta.resolve('@equipoise/diffusion')).path('sd');
  const { loadPipeline } = await import('@equipoise/diffusion');
  const pipeline = (await loadPipeline(folder, { storage: 'f32' })) as TextToImagePipeline;
  const { parts } = pipeline;
  const side = parts.unet.config.sample_size as number;
  const { config: scheduler } = parseSchedulerConfig(parts.scheduler, { as: sampler, pipeline: 'sd' });
  return {
    pipeline,
    parts: {
      unet: parts.unet,
      textEncoder: parts.textEncoder,
      tokenizer: parts.tokenizer,
      scheduler,
      hash: 'fixture',
      vaeHash: 'fixture vae',
      latentShape: [side, side, parts.unet.config.in_channels],
    },
  };
}

export async function smallParts(
  sampler: 'DDPMScheduler' | 'DDIMScheduler' = 'DDPMScheduler',
): Promise<DiffusionParts> {
  return (await smallPipeline(sampler)).parts;
}
