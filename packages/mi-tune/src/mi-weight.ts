/**
 * The weight of a timestep in the point-wise mutual information between prompt and image (MI-TUNE, equation 2 and
 * algorithm 2):
 *
 *   reference   kappa_t = beta_t T / (2 (1 - abar_t))              as the published code has it
 *   paper       kappa_t = beta_t T / (2 alpha_t (1 - abar_t))      with the alpha_t that the code leaves out
 *
 * alpha_t = 1 - beta_t lies in [0.988, 0.9992] for Stable Diffusion's schedule, so the two differ by at most 1.2 %.
 */
import { invalid } from '@equipoise/core';
import type { Schedule } from '@equipoise/diffusion';

export const WEIGHTINGS = ['paper', 'reference'] as const;
export type Weighting = (typeof WEIGHTINGS)[number];

/** Timesteps at or below this do not count: there both predictions are all noise and the weight explodes. */
export const TRUNCATION = 50;

export interface MiWeightOptions {
  /** Default 'paper'. */
  readonly weighting?: Weighting;
  /** Only timesteps above it count. Default 50. */
  readonly truncation?: number;
}

/** kappa_t; 0 where the timestep does not count. */
export function miWeight(
  schedule: Schedule,
  timestep: number,
  { weighting = 'paper', truncation = TRUNCATION }: MiWeightOptions = {},
): number {
  const beta = schedule.betas[timestep];
  const alphaCumprod = schedule.alphasCumprod[timestep];
  if (beta === undefined || alphaCumprod === undefined)
    throw invalid('timestep', `a whole number from 0 to ${schedule.betas.length - 1}`, timestep);
  if (timestep <= truncation) return 0;
  const reference = (beta * schedule.betas.length) / (2 * (1 - alphaCumprod));
  return weighting === 'paper' ? reference / (1 - beta) : reference;
}
