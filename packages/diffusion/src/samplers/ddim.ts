/** Song, Meng and Ermon, "Denoising Diffusion Implicit Models" (2020), Eqs. 12 and 16. */
import { alphaCumprodAt, type Schedule } from '../schedule.js';
import type { SchedulerConfig } from '../scheduler-config.js';
import { spacedTimesteps } from '../timesteps.js';
import { combine } from './combine.js';
import { makePrediction } from './prediction.js';
import type { Sampler, SamplerStep } from './types.js';

const f32 = Math.fround;

/** The signal level before the first timestep: 1, or that of timestep 0. */
export function finalAlpha(config: SchedulerConfig, schedule: Schedule): number {
  return config.setAlphaToOne ? 1 : alphaCumprodAt(schedule, 0);
}

/**
 * @param eta 0 is deterministic, 1 has DDPM's variance
 */
export function makeDdim(config: SchedulerConfig, schedule: Schedule, steps: number, eta: number): Sampler {
  const total = config.numTrainTimesteps;
  const timesteps = spacedTimesteps(config.timestepSpacing, steps, total, config.stepsOffset);
  const stride = Math.floor(total / steps);
  const coefficients = (index: number): SamplerStep => {
    const timestep = timesteps[index] as number;
    const previous = timestep - stride;
    const alpha = alphaCumprodAt(schedule, timestep);
    const alphaPrevious = previous >= 0 ? alphaCumprodAt(schedule, previous) : finalAlpha(config, schedule);
    const ratio = f32(f32(1 - alphaPrevious) / f32(1 - alpha));
    const variance = f32(ratio * f32(1 - f32(alpha / alphaPrevious)));
    const std = eta === 0 ? 0 : f32(eta * f32(Math.sqrt(variance)));
    const rest = f32(f32(1 - alphaPrevious) - f32(std * std));
    return combine(
      {
        timestep,
        prediction: makePrediction(config.predictionType, alpha),
        x0: f32(Math.sqrt(alphaPrevious)),
        eps: f32(Math.sqrt(rest)),
        x: 0,
        noise: std,
        drawsNoise: eta > 0,
      },
      config,
    );
  };
  return { name: 'ddim', timesteps, initNoiseSigma: 1, historyLength: 0, coefficients };
}
