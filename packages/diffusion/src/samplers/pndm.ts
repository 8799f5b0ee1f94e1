/**
 * Pseudo linear multistep (PLMS): Liu et al., "Pseudo Numerical Methods for Diffusion Models on
 * Manifolds" (2022), Eq. 9 for the transfer and the Adams-Bashforth weights of Eq. 12, started as
 * latent diffusion does: the first step is taken twice, the second time with the average of both
 * outputs, so n steps cost n + 1 model calls.
 */
import { invalid } from '@equipoise/core';
import { alphaCumprodAt, type Schedule } from '../schedule.js';
import type { SchedulerConfig } from '../scheduler-config.js';
import { spacedTimesteps } from '../timesteps.js';
import { finalAlpha } from './ddim.js';
import { makePrediction } from './prediction.js';
import type { Sampler, SamplerStep } from './types.js';

const f32 = Math.fround;

/** Adams-Bashforth weights by order, newest output first. */
const multistep: readonly (readonly number[])[] = [
  [1],
  [3 / 2, -1 / 2],
  [23 / 12, -16 / 12, 5 / 12],
  [55 / 24, -59 / 24, 37 / 24, -9 / 24],
];

/** Weights at a call: an Euler step, its repetition with the average, then rising orders. */
function weightsAt(index: number): readonly number[] {
  if (index === 1) return [1 / 2, 1 / 2];
  const order = index === 0 ? 1 : Math.min(index, 4);
  return multistep[order - 1] as readonly number[];
}

/** Factors of x and of the combined epsilon from one signal level to another (Eq. 9). */
export function transfer(alpha: number, alphaPrevious: number): { x: number; eps: number } {
  const beta = f32(1 - alpha);
  const betaPrevious = f32(1 - alphaPrevious);
  const denominator = f32(
    f32(alpha * f32(Math.sqrt(betaPrevious))) + f32(Math.sqrt(f32(f32(alpha * beta) * alphaPrevious))),
  );
  return {
    x: f32(Math.sqrt(f32(alphaPrevious / alpha))),
    eps: -f32(alphaPrevious - alpha) / denominator,
  };
}

export function makePndm(config: SchedulerConfig, schedule: Schedule, steps: number): Sampler {
  if (config.predictionType === 'sample') {
    throw invalid('prediction_type (PNDM)', "'epsilon' or 'v_prediction'", config.predictionType);
  }
  const total = config.numTrainTimesteps;
  const spaced = spacedTimesteps(config.timestepSpacing, steps, total, config.stepsOffset);
  const timesteps = spaced.length > 1 ? [...spaced.slice(0, 2), ...spaced.slice(1)] : spaced;
  const stride = Math.floor(total / steps);

  const coefficients = (index: number): SamplerStep => {
    const timestep = timesteps[index] as number;
    const repeated = index === 1;
    const from = repeated ? timestep + stride : timestep;
    const to = repeated ? timestep : timestep - stride;
    const alpha = alphaCumprodAt(schedule, from);
    const alphaPrevious = to >= 0 ? alphaCumprodAt(schedule, to) : finalAlpha(config, schedule);
    const factors = transfer(alpha, alphaPrevious);
    const { eps } = makePrediction(config.predictionType, alpha);
    return {
      timestep,
      inputScale: 1,
      cx: factors.x + factors.eps * eps.x,
      ce: factors.eps * eps.m,
      cn: 0,
      drawsNoise: false,
      weights: weightsAt(index),
      source: repeated ? 'held' : 'current',
      hold: index === 0,
      remember: !repeated,
      epsilonScale: makePrediction(config.predictionType, alphaCumprodAt(schedule, timestep)).eps.m,
    };
  };
  return { name: 'pndm', timesteps, initNoiseSigma: 1, historyLength: 3, coefficients };
}
