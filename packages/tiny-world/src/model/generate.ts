/** Pictures from prompts with the tiny model: DDIM with classifier-free guidance, in batches. */
import { randomNormal } from '@equipoise/backend';
import { type JobContext, streamId, throwIfCancelled } from '@equipoise/core';
import { createSampler, type Sampler, type SchedulerConfig } from '@equipoise/diffusion';
import type { AutoencoderKL, CLIPTextModel, ClipTokenizer, UNet2DConditionModel } from '@equipoise/models';
import * as tf from '@tensorflow/tfjs-core';
import { pictureBytes } from '../data/pictures.js';
import { IMAGE_BYTES } from '../world/render.js';
import { LATENT_CHANNELS, LATENT_SIZE, TEXT_LENGTH } from './architecture.js';

/** The parts of the pipeline, loaded. */
export interface TinyModel {
  readonly tokenizer: ClipTokenizer;
  readonly textEncoder: CLIPTextModel;
  readonly vae: AutoencoderKL;
  readonly unet: UNet2DConditionModel;
  readonly scheduler: SchedulerConfig;
}

export interface GenerateOptions extends JobContext {
  readonly seed: number;
  readonly steps: number;
  readonly guidance: number;
  /** Pictures made together. Default 32; changes nothing in them beyond rounding. */
  readonly batch?: number;
}

/**
 * One picture for each prompt, [N, 64, 64, 3] bytes. Picture i starts from the noise stream (seed, i), so that it
 * does not depend on the batch or on the other prompts.
 */
export async function generate(
  model: TinyModel,
  prompts: readonly string[],
  { seed, steps, guidance, batch = 32, ...job }: GenerateOptions,
): Promise<Uint8Array> {
  const sampler = createSampler(model.scheduler, { steps });
  const images = new Uint8Array(prompts.length * IMAGE_BYTES);
  for (let start = 0; start < prompts.length; start += batch) {
    throwIfCancelled(job.signal, 'generate');
    const part = prompts.slice(start, start + batch);
    const context = tf.tidy(() => guidedContext(model, part));
    let latents = initialLatents(seed, start, part.length);
    for (let index = 0; index < steps; index++) {
      const next = tf.tidy(() => denoise(model, sampler, index, latents, context, guidance));
      latents.dispose();
      latents = next;
    }
    const decoded = tf.tidy(() => model.vae.decode(model.vae.fromModelLatents(latents)));
    images.set(await pictureBytes(decoded), start * IMAGE_BYTES);
    tf.dispose([context, latents, decoded]);
    job.onProgress?.({ task: 'generate', done: start + part.length, total: prompts.length, unit: 'image' });
  }
  return images;
}

/** The noise that pictures `start` to `start + count - 1` of a seed begin with [count, 16, 16, 4]. */
export function initialLatents(seed: number, start: number, count: number): tf.Tensor4D {
  const shape = [LATENT_SIZE, LATENT_SIZE, LATENT_CHANNELS];
  return tf.tidy(() => {
    const rows = Array.from({ length: count }, (_, row) =>
      randomNormal<tf.Rank.R3>(shape, { seed, stream: streamId('tiny-world', 'latents', start + row) }),
    );
    return tf.stack(rows) as tf.Tensor4D;
  });
}

/** Text states of the empty prompt, then of the prompts: [2 B, L, C]. */
function guidedContext(model: TinyModel, prompts: readonly string[]): tf.Tensor3D {
  const texts = [...prompts.map(() => ''), ...prompts];
  const { ids } = model.tokenizer.encodeBatch(texts, { maxLength: TEXT_LENGTH });
  const rows = texts.map((_, row) => ids.subarray(row * TEXT_LENGTH, (row + 1) * TEXT_LENGTH));
  return model.textEncoder.forward(rows).lastHiddenState;
}

function denoise(
  model: TinyModel,
  sampler: Sampler,
  index: number,
  latents: tf.Tensor4D,
  context: tf.Tensor3D,
  guidance: number,
): tf.Tensor4D {
  const { timestep, inputScale, cx, ce } = sampler.coefficients(index);
  const output = model.unet.forward(tf.mul(latents, inputScale), timestep, context);
  const [unconditional, conditional] = tf.split(output, 2, 0) as [tf.Tensor4D, tf.Tensor4D];
  const guided = tf.add(unconditional, tf.mul(tf.sub(conditional, unconditional), guidance));
  return tf.add(tf.mul(latents, cx), tf.mul(guided, ce)) as tf.Tensor4D;
}
