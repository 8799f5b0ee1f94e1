/** The settings of text-to-image generation: one declaration for the library, the command line and the docs. */
import { defineOptions, invalid, type OptionsInput, type OptionsOf, option, z } from '@equipoise/core';

/** Samplers by the names a user types. */
export const samplerClasses = {
  ddpm: 'DDPMScheduler',
  ddim: 'DDIMScheduler',
  pndm: 'PNDMScheduler',
  euler: 'EulerDiscreteScheduler',
} as const;
export type SamplerName = keyof typeof samplerClasses;

const seed = z.int().min(0).max(Number.MAX_SAFE_INTEGER);
/** Pixels. */
export const LARGEST_SIDE = 16_384;
const side = z.int().min(8).max(LARGEST_SIDE);

/**
 * Defaults are those of the diffusers pipelines; sides, guidance and sampler default to the model's own.
 */
export const samplingOptions = defineOptions(
  'generate',
  {
    steps: option(z.int().min(1).max(1000).default(50), 'Denoising steps.', { group: 'Sampling' }),
    sampler: option(
      z.enum(['ddpm', 'ddim', 'pndm', 'euler']).optional(),
      "Sampler, made from the model's own schedule. Default: the one the model was saved with.",
      { group: 'Sampling' },
    ),
    guidance: option(
      z.number().min(0).max(100).optional(),
      'Guidance scale; 1 or less switches guidance off. Default: 7.5, for Stable Diffusion XL 5.',
      { group: 'Sampling' },
    ),
    guidanceRescale: option(
      z.number().min(0).max(1).default(0),
      "Share of the guided prediction brought back to the conditional one's spread.",
      { group: 'Sampling' },
    ),
    eta: option(z.number().min(0).max(1).default(0), 'Noise share of the sampler ddim.', {
      group: 'Sampling',
    }),
    clipSkip: option(z.int().min(1).max(31).optional(), 'Text encoder layers to leave out at the end.', {
      group: 'Sampling',
    }),
    seed: option(
      seed.default(0),
      'Seed. With philox, image i of a call uses seed + i and is the same in any batch; with torch one ' +
        'generator serves the whole call, as in diffusers.',
      { group: 'Random numbers' },
    ),
    seeds: option(z.array(seed).min(1).optional(), 'One seed for each image instead of a single one.', {
      group: 'Random numbers',
    }),
    rng: option(
      z.enum(['philox', 'torch']).default('philox'),
      "Random numbers: Philox streams, or PyTorch's CPU generator for the same picture as diffusers.",
      { group: 'Random numbers' },
    ),
    imagesPerPrompt: option(z.int().min(1).max(10_000).default(1), 'Images for each prompt.', {
      group: 'Images',
    }),
    height: option(side.optional(), "Height in pixels. Default: the model's own.", { group: 'Images' }),
    width: option(side.optional(), "Width in pixels. Default: the model's own.", { group: 'Images' }),
    unetBatch: option(
      z.int().min(1).max(10_000).optional(),
      'Images that pass through the denoiser together; changes memory, not results. Default: all.',
      { group: 'Memory' },
    ),
    vaeTiling: option(
      z.boolean().default(false),
      'Decode in overlapping tiles: less memory for large images, with slightly different pixels.',
      { group: 'Memory' },
    ),
  },
  ({ guidance, guidanceRescale }, name) => {
    if (guidanceRescale > 0 && guidance !== undefined && guidance <= 1) {
      throw invalid(name('guidanceRescale'), '0, for guidance is off', guidanceRescale);
    }
  },
);

export type SamplingOptions = OptionsOf<typeof samplingOptions>;
export type SamplingInput = OptionsInput<typeof samplingOptions>;
