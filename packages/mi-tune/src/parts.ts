/** What estimation and tuning need of a text-to-image model; any engine, any Stable Diffusion with one text encoder. */
import { invalid } from '@equipoise/core';
import { type PredictionType, type Schedule, type SchedulerConfig, scheduleOf } from '@equipoise/diffusion';
import type { CLIPTextModel, ClipTokenizer, UNet2DConditionModel } from '@equipoise/models';
import * as tf from '@tensorflow/tfjs-core';

export interface DiffusionParts {
  readonly unet: UNet2DConditionModel;
  readonly textEncoder: CLIPTextModel;
  readonly tokenizer: ClipTokenizer;
  readonly scheduler: SchedulerConfig;
  /** Hash of the weights and configs, for keys of results. */
  readonly hash: string;
  /** Hash of the autoencoder: what pictures enter or come out of depends on it, too. */
  readonly vaeHash: string;
  /** Side and channels of a latent: [h, w, c]. */
  readonly latentShape: readonly [number, number, number];
}

export function partsSchedule({ scheduler }: DiffusionParts): Schedule {
  return scheduleOf(scheduler);
}

/** d(eps)/d(model output) at a timestep: differences of predictions scale by it. */
export function epsilonScale(type: PredictionType, schedule: Schedule, timestep: number): number {
  if (type === 'epsilon') return 1;
  const alpha = schedule.alphasCumprod[timestep] as number;
  if (type === 'v_prediction') return Math.sqrt(alpha);
  return -Math.sqrt(alpha) / Math.sqrt(1 - alpha);
}

/** What the model's output should be where a latent was noised: the noise, the velocity, or the latent itself. */
export function outputTarget(
  type: PredictionType,
  {
    signal,
    spread,
    clean,
    noise,
  }: { signal: tf.Tensor4D; spread: tf.Tensor4D; clean: tf.Tensor4D; noise: tf.Tensor4D },
): tf.Tensor4D {
  if (type === 'epsilon') return noise;
  if (type === 'v_prediction') return tf.sub(tf.mul(signal, noise), tf.mul(spread, clean));
  return clean;
}

type TextParts = Pick<DiffusionParts, 'textEncoder' | 'tokenizer'>;

/** Tokens of a prompt that the model reads, start and end included. */
function promptLength({ textEncoder, tokenizer }: TextParts): number {
  return Math.min(tokenizer.modelMaxLength, textEncoder.config.max_position_embeddings);
}

/** Those of the prompts that are longer than the model reads: their ends change nothing. */
export function truncatedPrompts(parts: TextParts, prompts: readonly string[]): string[] {
  const found: string[] = [];
  parts.tokenizer.encodeBatch(prompts, {
    maxLength: promptLength(parts),
    onWarning: ({ index }) => void found.push(prompts[index] as string),
  });
  return found;
}

/** Text states of prompts [N, L, C]. */
export function encodePrompts(parts: TextParts, prompts: readonly string[]): tf.Tensor3D {
  if (prompts.length === 0) throw invalid('prompts', 'at least one prompt', prompts);
  const { textEncoder, tokenizer } = parts;
  const length = promptLength(parts);
  const { ids } = tokenizer.encodeBatch(prompts, { maxLength: length });
  return tf.tidy(
    () =>
      textEncoder.forward(prompts.map((_, i) => ids.subarray(i * length, (i + 1) * length))).lastHiddenState,
  );
}
