/**
 * Euler's method on the probability-flow ODE in the noise-level parameterisation: Karras et al.,
 * "Elucidating the Design Space of Diffusion-Based Generative Models" (2022), Algorithm 2 without
 * churn. Latents are x0 + sigma eps, so the model's input is scaled back to unit variance.
 */
import { alphaCumprodAt, type Schedule } from '../schedule.js';
import type { SchedulerConfig } from '../scheduler-config.js';
import { fractionalTimesteps } from '../timesteps.js';
import type { Sampler, SamplerStep } from './types.js';

const f32 = Math.fround;
/** Stands in for a terminal signal of exactly 0, whose noise level would be infinite. */
const leastSignal = 2 ** -24;

/** Noise level of every training timestep: sqrt((1 - alpha) / alpha). */
export function noiseLevels(schedule: Schedule): Float32Array {
  return schedule.alphasCumprod.map((alpha) => Math.sqrt(f32(f32(1 - alpha) / alpha)));
}

/** Linear interpolation in a table at a position that need not be whole; clamped at the ends. */
function interpolate(table: Float32Array, position: number): number {
  const last = table.length - 1;
  if (position <= 0) return table[0] as number;
  if (position >= last) return table[last] as number;
  const index = Math.floor(position);
  const low = table[index] as number;
  const high = table[index + 1] as number;
  return low + (high - low) * (position - index);
}

/** Factors of x and of the model's output for one step of length `dt` at noise level `sigma`. */
function slope(type: SchedulerConfig['predictionType'], sigma: number, dt: number): { x: number; m: number } {
  const square = sigma * sigma + 1;
  switch (type) {
    case 'epsilon':
      return { x: 1, m: dt };
    case 'v_prediction':
      return { x: 1 + (dt * sigma) / square, m: dt / Math.sqrt(square) };
    case 'sample':
      return { x: 1 + dt / sigma, m: -dt / sigma };
  }
}

function epsilonScale(type: SchedulerConfig['predictionType'], sigma: number): number {
  if (type === 'epsilon') return 1;
  return type === 'v_prediction' ? 1 / Math.sqrt(sigma * sigma + 1) : -1 / sigma;
}

/** The schedule as this sampler uses it: a terminal signal of 0 is raised to the least positive one. */
function withoutZero(config: SchedulerConfig, schedule: Schedule): Schedule {
  if (!config.rescaleBetasZeroSnr) return schedule;
  const alphasCumprod = schedule.alphasCumprod.slice();
  alphasCumprod[alphasCumprod.length - 1] = leastSignal;
  return { betas: schedule.betas, alphasCumprod };
}

export function makeEuler(config: SchedulerConfig, base: Schedule, steps: number): Sampler {
  const schedule = withoutZero(config, base);
  const { timestepSpacing: spacing, numTrainTimesteps: total } = config;
  const timesteps = fractionalTimesteps(spacing, steps, total, config.stepsOffset);
  const table = noiseLevels(schedule);
  const last = config.finalSigmasType === 'zero' ? 0 : Math.sqrt(1 / alphaCumprodAt(schedule, 0) - 1);
  const sigmas = Float32Array.from([...timesteps.map((t) => interpolate(table, t)), last]);
  const largest = sigmas.reduce((a, b) => Math.max(a, b));

  const coefficients = (index: number): SamplerStep => {
    const sigma = sigmas[index] as number;
    const dt = f32((sigmas[index + 1] as number) - sigma);
    const { x, m } = slope(config.predictionType, sigma, dt);
    return {
      timestep: timesteps[index] as number,
      inputScale: 1 / Math.sqrt(sigma * sigma + 1),
      cx: x,
      ce: m,
      cn: 0,
      drawsNoise: false,
      weights: [1],
      source: 'current',
      hold: false,
      remember: false,
      epsilonScale: epsilonScale(config.predictionType, sigma),
    };
  };
  const initNoiseSigma = spacing === 'leading' ? Math.sqrt(largest * largest + 1) : largest;
  return { name: 'euler', timesteps, initNoiseSigma: f32(initNoiseSigma), historyLength: 0, coefficients };
}
