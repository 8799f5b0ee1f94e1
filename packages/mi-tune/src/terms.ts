/**
 * Terms of the mutual information of pictures that exist already: draws of a timestep and a noise, and what the model's
 * two predictions say there. Both estimators are information-theoretic diffusion's (Kong, Liu, Li, Yogatama, Ver Steeg,
 * "Interpretable Diffusion via Information Decomposition", ICLR 2024, section 2.2):
 *
 *   orthogonal   kappa_t |eps(z_t, p, t) - eps(z_t, "", t)|^2
 *   standard     kappa_t (|eps(z_t, "", t) - eps|^2 - |eps(z_t, p, t) - eps|^2)
 *
 * Their means over the pictures of a perfect denoiser's own distribution are equal; for one picture they differ. The
 * orthogonal term says how far the prompt moves the prediction, whether to the right or the wrong side; the standard term
 * how much nearer to the truth, and is negative where the prompt leads away from the picture.
 */
import { randomNormal } from '@equipoise/backend';
import { invalid, PhiloxStream, streamId } from '@equipoise/core';
import { forwardFactors, type Schedule } from '@equipoise/diffusion';
import * as tf from '@tensorflow/tfjs-core';
import { type MiWeightOptions, miWeight, TRUNCATION } from './mi-weight.js';
import { type DiffusionParts, epsilonScale, outputTarget } from './parts.js';

export const ESTIMATORS = ['orthogonal', 'standard'] as const;
export type Estimator = (typeof ESTIMATORS)[number];

/** One draw: a timestep, a noise stream, its sign. */
export interface Draw {
  readonly replicate: number;
  readonly timestep: number;
  readonly stream: bigint;
  readonly sign: 1 | -1;
  /** Stratum size over all timesteps, over draws in the stratum: a replicate's shares sum to 1. */
  readonly share: number;
}

export interface DrawPlan {
  readonly seed: number;
  readonly replicates: number;
  /** Parts into which the timesteps above the truncation are split; one timestep in each. */
  readonly strata: number;
  /** Also -eps for each eps. */
  readonly antithetic: boolean;
  readonly truncation?: number;
}

/** Draws of all replicates; strata are as even as whole timesteps allow. Noise depends on (seed, replicate, stratum). */
export function planDraws(schedule: Schedule, plan: DrawPlan): Draw[] {
  const { seed, replicates, strata, antithetic, truncation = TRUNCATION } = plan;
  const first = truncation + 1;
  const count = schedule.betas.length - first;
  if (!(Number.isInteger(strata) && strata >= 1 && strata <= count))
    throw invalid('strata', `a whole number from 1 to ${count}`, strata);
  const draws: Draw[] = [];
  const signs: readonly (1 | -1)[] = antithetic ? [1, -1] : [1];
  for (let replicate = 0; replicate < replicates; replicate++) {
    const uniform = new PhiloxStream(seed, streamId('mi', 'timesteps', replicate));
    for (let s = 0; s < strata; s++) {
      const [from, to] = [Math.floor((s * count) / strata), Math.floor(((s + 1) * count) / strata)];
      const timestep = first + from + Math.floor(uniform.uniform(s) * (to - from));
      const stream = streamId('mi', 'noise', replicate, s);
      for (const sign of signs)
        draws.push({ replicate, timestep, stream, sign, share: (to - from) / count / signs.length });
    }
  }
  return draws;
}

export interface TermRows {
  /** A clean latent per row [R, h, w, c], or one for all rows [1, h, w, c]; scaled. */
  readonly clean: tf.Tensor4D;
  /** The draw of each row. */
  readonly draws: readonly Draw[];
  /** Text states of '' [1, L, C]. */
  readonly uncond: tf.Tensor3D;
  /** For each prompt under which the rows are scored, its text states per row [R, L, C]. */
  readonly conds: readonly tf.Tensor3D[];
}

export interface TermOptions extends MiWeightOptions {
  readonly seed: number;
  readonly estimator: Estimator;
}

/**
 * Weighted terms for each prompt and row, summed over channels [P, R, h, w]; the unconditional prediction is shared by the
 * prompts.
 */
export function termFields(
  parts: DiffusionParts,
  schedule: Schedule,
  { clean, draws, uncond, conds }: TermRows,
  options: TermOptions,
): tf.Tensor4D {
  return tf.tidy(() => {
    const type = parts.scheduler.predictionType;
    const timesteps = draws.map(({ timestep }) => timestep);
    const column = (values: number[]): tf.Tensor4D => tf.tensor4d(values, [draws.length, 1, 1, 1]);
    const factors = timesteps.map((timestep) => forwardFactors(schedule, timestep));
    const [signal, spread] = [column(factors.map((f) => f.signal)), column(factors.map((f) => f.noise))];
    const noise = noiseOf(parts, draws, options.seed);
    const noisy = tf.add(tf.mul(signal, clean), tf.mul(spread, noise)) as tf.Tensor4D;
    const weights = timesteps.map(
      (timestep) => miWeight(schedule, timestep, options) * epsilonScale(type, schedule, timestep) ** 2,
    );
    const target =
      options.estimator === 'standard' ? outputTarget(type, { signal, spread, clean, noise }) : undefined;
    const unconditional = parts.unet.forward(noisy, timesteps, tf.tile(uncond, [draws.length, 1, 1]));
    const fields = conds.map((states) =>
      tf.tidy(() => {
        const conditional = parts.unet.forward(noisy, timesteps, states);
        const term = termOf(conditional, unconditional, target);
        return tf.mul(tf.tensor3d(weights, [draws.length, 1, 1]), tf.sum(term, 3));
      }),
    );
    return tf.stack(fields) as tf.Tensor4D;
  });
}

/** Without a target the orthogonal term, else the standard one: |u - y|^2 - |c - y|^2 = (u - c) (u + c - 2 y). */
function termOf(
  conditional: tf.Tensor4D,
  unconditional: tf.Tensor4D,
  target: tf.Tensor4D | undefined,
): tf.Tensor {
  if (target === undefined) return tf.squaredDifference(conditional, unconditional);
  const sides = tf.sub(tf.add(unconditional, conditional), tf.mul(2, target));
  return tf.mul(tf.sub(unconditional, conditional), sides);
}

/** The noise of each row; rows of one draw share it. */
function noiseOf({ latentShape }: DiffusionParts, draws: readonly Draw[], seed: number): tf.Tensor4D {
  const streams = [...new Set(draws.map(({ stream }) => stream))];
  const distinct = tf.stack(streams.map((stream) => randomNormal([...latentShape], { seed, stream })));
  const rows = draws.map(({ stream }) => streams.indexOf(stream));
  const signs = tf.tensor4d(
    draws.map(({ sign }) => sign),
    [draws.length, 1, 1, 1],
  );
  return tf.mul(signs, tf.gather(distinct, tf.tensor1d(rows, 'int32')));
}
