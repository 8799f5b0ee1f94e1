/** Options of fine-tuning, and what they stand for. */
import { type AdapterConfig, ATTENTION_TARGETS } from '@equipoise/adapters';
import { option, z } from '@equipoise/core';
import type { TextToImagePipeline } from '@equipoise/diffusion';
import {
  type AlignmentScorer,
  decoderOf,
  FINE_TUNE_DEFAULTS,
  type FineTuneOptions,
  type SamplingOptions,
  type Validation,
} from '@equipoise/mi-tune';

const positive = z.int().min(1);
const adapterGroup = { group: 'Adapter' };
const training = { group: 'Training' };
const validating = { group: 'Validation' };

/** Attention projections of CLIP's text tower. */
const TEXT_TARGETS = ['q_proj', 'k_proj', 'v_proj', 'out_proj'] as const;

export const tuningOptions = {
  kind: option(z.enum(['dora', 'lora']).default('dora'), 'Kind of adapter.', adapterGroup),
  rank: option(positive.default(32), 'Rank of the update.', adapterGroup),
  alpha: option(z.number().gt(0).default(32), 'Scale of the update, times rank.', adapterGroup),
  init: option(
    z.enum(['gaussian', 'kaiming']).default('gaussian'),
    'How the down projection starts.',
    adapterGroup,
  ),
  targets: option(
    z
      .array(z.string())
      .min(1)
      .default([...ATTENTION_TARGETS]),
    "Names of the denoiser's linear layers that are adapted.",
    adapterGroup,
  ),
  textEncoder: option(z.boolean().default(false), 'Tune the text encoder too.', adapterGroup),
  textKind: option(
    z.enum(['lora', 'dora']).default('lora'),
    "Kind of the text encoder's adapter. Through diffusers, transformers 5 loads LoRA there but loses DoRA's magnitudes.",
    adapterGroup,
  ),
  textTargets: option(
    z
      .array(z.string())
      .min(1)
      .default([...TEXT_TARGETS]),
    "Names of the text encoder's linear layers that are adapted.",
    adapterGroup,
  ),
  learningRate: option(
    z.number().gt(0).default(FINE_TUNE_DEFAULTS.learningRate),
    'Learning rate of AdamW.',
    training,
  ),
  weightDecay: option(z.number().min(0).default(FINE_TUNE_DEFAULTS.weightDecay), 'Weight decay.', training),
  maxGradientNorm: option(
    z.number().gt(0).default(FINE_TUNE_DEFAULTS.maxGradientNorm),
    'Largest norm of the whole gradient.',
    training,
  ),
  tuneBatch: option(positive.default(FINE_TUNE_DEFAULTS.batch), 'Examples per forward.', training),
  accumulation: option(positive.default(FINE_TUNE_DEFAULTS.accumulation), 'Forwards per update.', training),
  updates: option(positive.default(FINE_TUNE_DEFAULTS.updates), 'Updates.', training),
  warmup: option(z.int().min(0).default(0), 'Updates over which the learning rate rises.', training),
  decay: option(
    z.enum(['none', 'linear']).default('none'),
    'What the learning rate does then: stays, or falls evenly to 0; with that, --updates cannot be raised later.',
    training,
  ),
  lowestTimestep: option(
    z.int().min(0).max(999).default(0),
    "Timesteps below it are not trained: the updates go where a picture's composition is decided. 0 trains all, as published.",
    training,
  ),
  gradientCheckpointing: option(
    z.boolean().default(false),
    'Recompute activations: less memory, more time.',
    training,
  ),
  checkpointEvery: option(positive.default(10), 'Updates between checkpoints.', training),
  tuneSeed: option(
    z.int().min(0).default(0),
    'Seed of the adapter, the order of examples, timesteps and noise.',
    training,
  ),
  validate: option(
    z.string().optional(),
    'Prompt file: draw and score its prompts as tuning goes on, and choose the best checkpoint.',
    { placeholder: 'file', ...validating },
  ),
  validateEvery: option(positive.default(50), 'Updates between validations.', validating),
  validateImages: option(positive.default(4), 'Pictures per validation prompt.', validating),
  choose: option(
    z.string().default('mi'),
    'Score that chooses the best checkpoint: mi, picture_mi, clip (with --clip), or the name of a --scorer.',
    validating,
  ),
};

type Tuning = {
  [K in Exclude<keyof typeof tuningOptions, 'validate'>]: z.output<(typeof tuningOptions)[K]>;
};

/** The adapters of the denoiser and, where wanted, of the text encoder. */
export function adaptersOf(options: Tuning): {
  adapter: AdapterConfig;
  textAdapter: AdapterConfig | undefined;
} {
  const { kind, rank, alpha, init, targets, textEncoder, textKind, textTargets } = options;
  const adapter = { kind, rank, alpha, init, targets };
  return {
    adapter,
    textAdapter: textEncoder ? { ...adapter, kind: textKind, targets: textTargets } : undefined,
  };
}

export function fineTuneOf(options: Tuning): FineTuneOptions {
  const { learningRate, weightDecay, maxGradientNorm, accumulation, warmup, lowestTimestep } = options;
  return {
    learningRate,
    weightDecay,
    maxGradientNorm,
    accumulation,
    warmup,
    decay: options.decay,
    lowestTimestep,
    gradientCheckpointing: options.gradientCheckpointing,
    batch: options.tuneBatch,
    updates: options.updates,
    seed: options.tuneSeed,
  };
}

export function validationOf(
  { validateEvery, validateImages, choose }: Tuning,
  prompts: readonly string[] | undefined,
  sampling: SamplingOptions,
  batch: number,
  pipeline: TextToImagePipeline,
  scorers: readonly AlignmentScorer[],
): Validation | undefined {
  if (prompts === undefined) return undefined;
  return {
    every: validateEvery,
    images: validateImages,
    prompts,
    sampling,
    batch,
    choose,
    pictures: { scorers, decode: decoderOf(pipeline) },
  };
}
