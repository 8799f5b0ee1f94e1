/**
 * Point-wise mutual information between a prompt and an image that exists already:
 *
 *   I(z, p) = E_t E_eps [ kappa_t |eps(z_t, p, t) - eps(z_t, "", t)|^2 ],   z_t = sqrt(abar_t) z + sqrt(1 - abar_t) eps
 *
 * with t uniform over the counted timesteps: what the sampler's sum estimates along its own trajectory; or with the
 * standard term in place of this orthogonal one (see terms.ts). The integral over t is stratified, the noise antithetic
 * (eps and -eps), and everything is replicated, so that the spread of the replicates gives the standard error. Noise
 * depends on (seed, replicate, stratum) alone: images and prompts are compared under the same noise.
 */
import { invalid, type JobContext, ProgressCounter } from '@equipoise/core';
import * as tf from '@tensorflow/tfjs-core';
import type { MiWeightOptions } from './mi-weight.js';
import { type DiffusionParts, encodePrompts, partsSchedule } from './parts.js';
import { studentQuantile } from './student.js';
import { type Draw, type Estimator, planDraws, type TermRows, termFields } from './terms.js';

export interface EstimateOptions extends MiWeightOptions {
  readonly seed: number;
  /** Form of a term. Default `orthogonal`, the published one. */
  readonly estimator?: Estimator;
  /** Independent estimates, at least 2; their spread gives the standard error. Default 4. */
  readonly replicates?: number;
  /** Parts into which the timesteps are split; one draw in each. Default 16. */
  readonly strata?: number;
  /** Also -eps for each eps. Default true. */
  readonly antithetic?: boolean;
  /** Noisy latents per forward. Default 16. */
  readonly batch?: number;
  /** Also say where in the image the information lies. Default false. */
  readonly maps?: boolean;
}

export interface MiEstimate {
  /** Nats; the standard estimator may give less than 0. */
  readonly mi: number;
  readonly standardError: number;
  /** 95 % confidence interval from Student's t over the replicates. */
  readonly interval: readonly [number, number];
  /** Plain independent draws that would give the same standard error. */
  readonly effectiveSamples: number;
  /** Mean weighted term per drawn timestep, ascending: the per-timestep curve. */
  readonly curve: readonly { readonly timestep: number; readonly value: number }[];
  /** With `maps`: nats per latent pixel, summing to `mi`. */
  readonly map?: InformationMap;
}

/** The terms summed over channels only, averaged over the draws: [h, w] row-major. */
export interface InformationMap {
  readonly values: Float32Array;
  readonly height: number;
  readonly width: number;
}

/**
 * Estimates for every image under every prompt.
 *
 * @param latents [N, h, w, c], scaled as the diffusion model takes them
 * @returns estimates[image][prompt]
 */
export async function estimateMi(
  parts: DiffusionParts,
  latents: tf.Tensor4D,
  prompts: readonly string[],
  options: EstimateOptions,
  context: JobContext = {},
): Promise<MiEstimate[][]> {
  const schedule = partsSchedule(parts);
  const { replicates = 4, strata = 16, antithetic = true, estimator = 'orthogonal', batch = 16 } = options;
  if (!(Number.isInteger(replicates) && replicates >= 2))
    throw invalid('replicates', 'a whole number of at least 2', replicates);
  const draws = planDraws(schedule, { ...options, replicates, strata, antithetic });
  const contexts = tf.tidy(() => encodePrompts(parts, ['', ...prompts]));
  const images = latents.shape[0];
  const [height, width] = parts.latentShape;
  const progress = new ProgressCounter('mutual information', context, {
    total: images * draws.length,
    unit: 'draw',
  });
  const results: MiEstimate[][] = [];
  try {
    for (let image = 0; image < images; image++) {
      // terms[prompt][draw]
      const terms = prompts.map(() => new Float64Array(draws.length));
      const maps = options.maps === true ? prompts.map(() => new Float64Array(height * width)) : [];
      for (let start = 0; start < draws.length; start += batch) {
        const part = draws.slice(start, start + batch);
        const fields = tf.tidy(() =>
          termFields(parts, schedule, rowsOf(latents, image, part, contexts), { ...options, estimator }),
        );
        await addTerms(fields, part, start, terms);
        if (maps.length > 0) await addMaps(fields, part, replicates, maps);
        fields.dispose();
        progress.advance(part.length);
      }
      results.push(
        terms.map((own, p) => ({
          ...summarise(draws, own),
          ...(maps[p] !== undefined && { map: { values: Float32Array.from(maps[p]), height, width } }),
        })),
      );
    }
  } finally {
    contexts.dispose();
  }
  return results;
}

/** One image under the draws, with every prompt's states. */
function rowsOf(
  latents: tf.Tensor4D,
  image: number,
  draws: readonly Draw[],
  contexts: tf.Tensor3D,
): TermRows {
  const states = (row: number): tf.Tensor3D => tf.slice(contexts, [row, 0, 0], [1, -1, -1]);
  return {
    clean: tf.slice(latents, [image, 0, 0, 0], [1, -1, -1, -1]),
    draws,
    uncond: states(0),
    conds: Array.from({ length: contexts.shape[0] - 1 }, (_, p) =>
      tf.tile(states(p + 1), [draws.length, 1, 1]),
    ),
  };
}

/** Sums over the image for each prompt and draw. */
async function addTerms(
  fields: tf.Tensor4D,
  draws: readonly Draw[],
  start: number,
  terms: readonly Float64Array[],
): Promise<void> {
  const sums = tf.sum(fields, [2, 3]);
  const numbers = await sums.data();
  sums.dispose();
  for (const [p, own] of terms.entries())
    for (let d = 0; d < draws.length; d++) own[start + d] = numbers[p * draws.length + d] as number;
}

/** Means over the draws for each prompt and latent pixel. */
async function addMaps(
  fields: tf.Tensor4D,
  draws: readonly Draw[],
  replicates: number,
  maps: readonly Float64Array[],
): Promise<void> {
  const shares = draws.map(({ share }) => share / replicates);
  const means = tf.tidy(() => tf.sum(tf.mul(fields, tf.tensor4d(shares, [1, draws.length, 1, 1])), 1));
  const numbers = await means.data();
  means.dispose();
  for (const [p, own] of maps.entries())
    for (let i = 0; i < own.length; i++)
      own[i] = (own[i] as number) + (numbers[p * own.length + i] as number);
}

function summarise(draws: readonly Draw[], terms: Float64Array): MiEstimate {
  const count = Math.max(...draws.map(({ replicate }) => replicate)) + 1;
  const replicates = new Float64Array(count);
  const curve = new Map<number, { sum: number; n: number }>();
  let [mean, square] = [0, 0];
  for (const [i, { replicate, share, timestep }] of draws.entries()) {
    const term = terms[i] as number;
    replicates[replicate] = (replicates[replicate] as number) + share * term;
    mean += (share * term) / count;
    square += (share * term * term) / count;
    const point = curve.get(timestep) ?? { sum: 0, n: 0 };
    curve.set(timestep, { sum: point.sum + term, n: point.n + 1 });
  }
  const variance = replicates.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (count - 1);
  const standardError = Math.sqrt(variance / count);
  const reach = studentQuantile(0.975, count - 1) * standardError;
  return {
    mi: mean,
    standardError,
    interval: [mean - reach, mean + reach],
    effectiveSamples:
      standardError > 0 ? (square - mean * mean) / standardError ** 2 : Number.POSITIVE_INFINITY,
    curve: [...curve]
      .sort(([a], [b]) => a - b)
      .map(([timestep, { sum, n }]) => ({ timestep, value: sum / n })),
  };
}
