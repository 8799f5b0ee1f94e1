/** Ancestral sampling: Ho, Jain and Abbeel, "Denoising Diffusion Probabilistic Models" (2020), Eq. 7. */
import { alphaCumprodAt, type Schedule } from '../schedule.js';
import type { SchedulerConfig } from '../scheduler-config.js';
import { spacedTimesteps } from '../timesteps.js';
import { combine, type PosteriorStep } from './combine.js';
import { makePrediction } from './prediction.js';
import type { Sampler, SamplerStep } from './types.js';

const f32 = Math.fround;
/** The posterior variance is 0 at the last step; its logarithm is taken elsewhere, hence a floor. */
const minimumVariance = 1e-20;

/**
 * The posterior mean's factors and the standard deviation from one signal level to the next.
 * @param alpha cumulative signal now
 * @param alphaPrevious cumulative signal after the step; 1 after the last
 */
export function posterior(
  alpha: number,
  alphaPrevious: number,
  varianceType: SchedulerConfig['varianceType'],
): { x0: number; x: number; std: number } {
  const alphaStep = f32(alpha / alphaPrevious);
  const betaStep = f32(1 - alphaStep);
  const beta = f32(1 - alpha);
  const betaPrevious = f32(1 - alphaPrevious);
  const small = Math.max(f32(f32(betaPrevious / beta) * betaStep), minimumVariance);
  return {
    x0: f32(f32(f32(Math.sqrt(alphaPrevious)) * betaStep) / beta),
    x: f32(f32(f32(Math.sqrt(alphaStep)) * betaPrevious) / beta),
    std: f32(Math.sqrt(varianceType === 'fixed_small' ? small : betaStep)),
  };
}

export function makeDdpm(config: SchedulerConfig, schedule: Schedule, steps: number): Sampler {
  const timesteps = spacedTimesteps(
    config.timestepSpacing,
    steps,
    config.numTrainTimesteps,
    config.stepsOffset,
  );
  const coefficients = (index: number): SamplerStep => {
    const timestep = timesteps[index] as number;
    const next = timesteps[index + 1];
    const alpha = alphaCumprodAt(schedule, timestep);
    const alphaPrevious = next === undefined || next < 0 ? 1 : alphaCumprodAt(schedule, next);
    const { x0, x, std } = posterior(alpha, alphaPrevious, config.varianceType);
    const drawsNoise = timestep > 0;
    const prediction = makePrediction(config.predictionType, alpha);
    const step: PosteriorStep = {
      timestep,
      prediction,
      x0,
      eps: 0,
      x,
      noise: drawsNoise ? std : 0,
      drawsNoise,
    };
    return combine(step, config);
  };
  return { name: 'ddpm', timesteps, initNoiseSigma: 1, historyLength: 0, coefficients };
}
