import { invalid } from '@equipoise/core';
import { makeSchedule, type Schedule } from '../schedule.js';
import type { SchedulerConfig } from '../scheduler-config.js';
import { makeDdim } from './ddim.js';
import { makeDdpm } from './ddpm.js';
import { makeEuler } from './euler.js';
import { makePndm } from './pndm.js';
import type { Sampler } from './types.js';

export { applyStep, initialState, type SamplerState } from './apply.js';
export { posterior } from './ddpm.js';
export { noiseLevels } from './euler.js';
export type { Sampler, SamplerStep } from './types.js';

export interface SamplerOptions {
  steps: number;
  /** DDIM's noise share, 0 (deterministic) to 1; refused with any other sampler unless 0. */
  eta?: number;
}

/** The schedule of a scheduler config. */
export function scheduleOf(config: SchedulerConfig): Schedule {
  return makeSchedule({
    numTrainTimesteps: config.numTrainTimesteps,
    betaStart: config.betaStart,
    betaEnd: config.betaEnd,
    betaSchedule: config.betaSchedule,
    trainedBetas: config.trainedBetas,
    rescaleZeroTerminalSnr: config.rescaleBetasZeroSnr,
  });
}

/**
 * Makes the sampler that a scheduler config names.
 * @param schedule as made by {@link scheduleOf}; pass it to share one among samplers
 */
export function createSampler(
  config: SchedulerConfig,
  options: SamplerOptions,
  schedule: Schedule = scheduleOf(config),
): Sampler {
  const { steps, eta = 0 } = options;
  if (!(eta >= 0 && eta <= 1)) throw invalid('eta', 'a number from 0 to 1', eta);
  if (eta !== 0 && config.className !== 'DDIMScheduler') {
    throw invalid(`eta (${config.className})`, '0, for it applies to DDIMScheduler only', eta);
  }
  switch (config.className) {
    case 'DDPMScheduler':
      return makeDdpm(config, schedule, steps);
    case 'DDIMScheduler':
      return makeDdim(config, schedule, steps, eta);
    case 'PNDMScheduler':
      return makePndm(config, schedule, steps);
    case 'EulerDiscreteScheduler':
      return makeEuler(config, schedule, steps);
  }
}
