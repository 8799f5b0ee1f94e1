/** The pipeline made of what the stages of a run have left. */
import type { JsonValue } from '@equipoise/core';
import { TextToImagePipeline } from '@equipoise/diffusion';
import { AutoencoderKL, CLIPTextModel, UNet2DConditionModel } from '@equipoise/models';
import { schedulerConfig, textEncoderConfig, unetConfig, vaeConfig } from '../model/architecture.js';
import type { StageContext } from './stage-context.js';

type Config = Readonly<Record<string, JsonValue>>;

/**
 * Vocabulary, text tower and autoencoder of the run with a denoiser: the one that a stage has
 * left, finished or not, or one with fresh weights. The caller disposes of the parts with {@link disposePipeline}.
 */
export async function runPipeline(
  context: StageContext,
  denoiser: 'fresh' | 'unet',
): Promise<TextToImagePipeline> {
  const frozen = { storage: 'f32' } as const;
  const tokenizer = await context.tokenizer();
  const vae = await context.loadResult('vae', 'vae');
  const clip = await context.loadResult('clip', 'clip');
  const configs = {
    text_encoder: textEncoderConfig(await context.vocabularyIds()) as Config,
    vae: vaeConfig(Number(vae.metadata.scaling_factor)) as Config,
    unet: unetConfig() as Config,
  };
  return new TextToImagePipeline({
    tokenizer,
    textEncoder: await CLIPTextModel.load(configs.text_encoder, clip.state, frozen),
    vae: await AutoencoderKL.load(configs.vae, vae.state, frozen),
    unet:
      denoiser === 'fresh'
        ? UNet2DConditionModel.random(configs.unet, context.recipe.seed, frozen)
        : await UNet2DConditionModel.load(
            configs.unet,
            (await context.loadResult('unet', 'unet')).state,
            frozen,
          ),
    scheduler: schedulerConfig(),
    configs,
  });
}

/** Frees the weights of all parts. */
export function disposePipeline({ parts }: TextToImagePipeline): void {
  for (const part of [parts.unet, parts.vae, parts.textEncoder]) part.dispose();
}
