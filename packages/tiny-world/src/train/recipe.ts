/** The recipe: every number that the shipped weights were trained with, in one table. */
import type { OptimizerSettings } from './loop.js';

export const STAGES = ['vocab', 'clip', 'vae', 'judges', 'unet', 'vision'] as const;
export type Stage = (typeof STAGES)[number];

export interface StageRecipe {
  readonly steps: number;
  readonly batch: number;
  readonly checkpointEvery: number;
  readonly optimizer: OptimizerSettings;
  readonly average: { readonly decay: number; readonly every: number };
}

export interface Recipe {
  readonly seed: number;
  /** Pictures of each split. Judges train on a split of their own, each on so many of its world; all is measured on `test`. */
  readonly pictures: { readonly train: number; readonly judge: number; readonly test: number };
  /** Largest size of the vocabulary, the 514 fixed tokens included. */
  readonly vocabulary: number;
  readonly clip: StageRecipe & {
    /** Weight of telling each word from its own text state, beside the contrast of pictures and captions. */
    readonly wordWeight: number;
  };
  readonly vision: StageRecipe;
  readonly vae: StageRecipe & {
    /** Side of the random crops that all but the last steps train on; whole pictures follow. */
    readonly crop: number;
    /** Share of the steps, at the end, that see whole pictures (fewer, for the same number of pixels). */
    readonly wholeShare: number;
    readonly gradientWeight: number;
    readonly klWeight: number;
  };
  readonly judges: StageRecipe;
  readonly unet: StageRecipe & {
    /** Share of captions replaced by the empty one, for classifier-free guidance. */
    readonly captionDropout: number;
    /** Clamp on the signal-to-noise ratio in the loss weight (Hang et al., 2023). */
    readonly snrClamp: number;
  };
}

function optimizer(peak: number, warmup: number, beta2: number, weightDecay: number): OptimizerSettings {
  return { rate: { peak, warmup, floor: 0.02 }, beta1: 0.9, beta2, weightDecay, maxNorm: 1 };
}

export const RECIPE: Recipe = {
  seed: 1,
  pictures: { train: 24_000, judge: 16_000, test: 2_000 },
  vocabulary: 1_024,
  clip: {
    steps: 3_000,
    batch: 64,
    checkpointEvery: 500,
    optimizer: optimizer(1e-3, 200, 0.98, 0.05),
    average: { decay: 0.99, every: 5 },
    wordWeight: 0.5,
  },
  vision: {
    steps: 1_200,
    batch: 64,
    checkpointEvery: 400,
    optimizer: optimizer(1.5e-3, 50, 0.98, 0.05),
    average: { decay: 0.99, every: 5 },
  },
  vae: {
    steps: 2_000,
    batch: 32,
    checkpointEvery: 250,
    optimizer: optimizer(4e-3, 50, 0.99, 0),
    average: { decay: 0.99, every: 5 },
    crop: 32,
    wholeShare: 0.15,
    gradientWeight: 0.5,
    klWeight: 2e-4,
  },
  judges: {
    steps: 4_000,
    batch: 64,
    checkpointEvery: 1_000,
    optimizer: optimizer(1.5e-3, 100, 0.99, 1e-4),
    average: { decay: 0.99, every: 5 },
  },
  unet: {
    steps: 9_000,
    batch: 32,
    checkpointEvery: 1_000,
    optimizer: optimizer(1.5e-3, 200, 0.99, 0.01),
    average: { decay: 0.999, every: 5 },
    captionDropout: 0.1,
    snrClamp: 5,
  },
};

/** The recipe with `effort` times the steps and pictures, rounded up; for trials and tests. */
export function scaledRecipe(recipe: Recipe, effort: number): Recipe {
  if (effort === 1) return recipe;
  const scaled = (count: number, least = 1): number => Math.max(least, Math.ceil(count * effort));
  const stage = <S extends StageRecipe>(settings: S): S => ({ ...settings, steps: scaled(settings.steps) });
  const { train, judge, test } = recipe.pictures;
  // No fewer pictures than any stage's batch or measurement needs.
  const pictures = { train: scaled(train, 512), judge: scaled(judge, 512), test: scaled(test, 512) };
  return {
    ...recipe,
    pictures,
    clip: stage(recipe.clip),
    vision: stage(recipe.vision),
    vae: stage(recipe.vae),
    judges: stage(recipe.judges),
    unet: stage(recipe.unet),
  };
}
