/**
 * Noise schedules as pure functions on plain arrays. Nothing here needs a tensor engine.
 *
 * Arithmetic follows single precision step by step where the reference libraries do, because a
 * schedule is a table: a different last bit in it is a different picture for the same seed.
 */
import { invalid } from '@equipoise/core';

export type BetaSchedule = 'linear' | 'scaled_linear' | 'squaredcos_cap_v2';

export interface ScheduleOptions {
  numTrainTimesteps: number;
  betaStart: number;
  betaEnd: number;
  betaSchedule: BetaSchedule;
  /** Explicit betas; replaces the three values above. */
  trainedBetas?: readonly number[] | null;
  /** Shift and scale so that the last step holds no signal (Lin et al. 2023, Algorithm 1). */
  rescaleZeroTerminalSnr?: boolean;
}

/** The tables of a variance-preserving forward process; index 0 is the least noisy step. */
export interface Schedule {
  readonly betas: Float32Array;
  /** Products of (1 - beta) up to and including each index. */
  readonly alphasCumprod: Float32Array;
}

const f32 = Math.fround;

/**
 * Evenly spaced single-precision values, both ends included, filled from both sides: the first half
 * counts up from `start`, the second down from `end`, each value rounded once.
 */
export function linspaceF32(start: number, end: number, count: number): Float32Array {
  const out = new Float32Array(count);
  if (count === 1) {
    out[0] = start;
    return out;
  }
  const first = f32(start);
  const last = f32(end);
  const step = f32(f32(last - first) / f32(count - 1));
  for (let i = 0; i < count; i++) {
    // float64 holds step * i exactly, so this is a fused multiply-add up to one rounding.
    out[i] = i < Math.floor(count / 2) ? first + step * i : last - step * (count - 1 - i);
  }
  return out;
}

/** Products of all elements up to each index: accumulated in double, each partial result rounded. */
export function cumulativeProduct(values: Float32Array): Float32Array {
  const out = new Float32Array(values.length);
  let product = 1;
  for (const [i, value] of values.entries()) {
    product *= value;
    out[i] = product;
  }
  return out;
}

function cosineBetas(count: number): Float32Array {
  const signal = (u: number): number => Math.cos((((u + 0.008) / 1.008) * Math.PI) / 2) ** 2;
  return Float32Array.from({ length: count }, (_, i) =>
    Math.min(1 - signal((i + 1) / count) / signal(i / count), 0.999),
  );
}

/**
 * The variances added at each training step.
 * - `linear`: evenly spaced (Ho et al. 2020).
 * - `scaled_linear`: evenly spaced square roots (Rombach et al. 2022).
 * - `squaredcos_cap_v2`: from a squared-cosine signal level (Nichol and Dhariwal 2021).
 */
export function makeBetas(options: ScheduleOptions): Float32Array {
  const { numTrainTimesteps: count, betaStart, betaEnd, betaSchedule, trainedBetas } = options;
  if (trainedBetas) {
    if (trainedBetas.length !== count) {
      throw invalid('trained_betas', `${count} values (num_train_timesteps)`, trainedBetas.length);
    }
    return Float32Array.from(trainedBetas);
  }
  switch (betaSchedule) {
    case 'linear':
      return linspaceF32(betaStart, betaEnd, count);
    case 'scaled_linear':
      return linspaceF32(Math.sqrt(betaStart), Math.sqrt(betaEnd), count).map((root) => root * root);
    case 'squaredcos_cap_v2':
      return cosineBetas(count);
    default:
      throw invalid('beta_schedule', "'linear', 'scaled_linear' or 'squaredcos_cap_v2'", betaSchedule);
  }
}

/**
 * Betas whose last cumulative signal is zero while the first stays as it was
 * (Lin et al., "Common Diffusion Noise Schedules and Sample Steps are Flawed", Algorithm 1).
 */
export function rescaleZeroTerminalSnr(betas: Float32Array): Float32Array {
  const roots = cumulativeProduct(betas.map((beta) => 1 - beta)).map(Math.sqrt);
  const first = roots[0] as number;
  const last = roots[roots.length - 1] as number;
  const stretch = f32(first / f32(first - last));
  const signal = roots.map((root) => f32(f32(root - last) * stretch)).map((root) => root * root);
  return signal.map((value, i) => 1 - f32(i === 0 ? value : value / (signal[i - 1] as number)));
}

/** Betas and cumulative products of a schedule; about 8 KB, cheap to make. */
export function makeSchedule(options: ScheduleOptions): Schedule {
  const count = options.numTrainTimesteps;
  if (!Number.isInteger(count) || count < 1) {
    throw invalid('num_train_timesteps', 'a positive integer', count);
  }
  const plain = makeBetas(options);
  const betas = options.rescaleZeroTerminalSnr ? rescaleZeroTerminalSnr(plain) : plain;
  for (const [i, beta] of betas.entries()) {
    if (!(beta >= 0 && beta <= 1)) throw invalid(`betas[${i}]`, 'a value in [0, 1]', beta);
  }
  return { betas, alphasCumprod: cumulativeProduct(betas.map((beta) => 1 - beta)) };
}

/** The cumulative signal at a timestep; throws when the table does not reach it. */
export function alphaCumprodAt(schedule: Schedule, timestep: number): number {
  const value = schedule.alphasCumprod[timestep];
  if (value === undefined) {
    throw invalid('timestep', `an integer in [0, ${schedule.alphasCumprod.length - 1}]`, timestep);
  }
  return value;
}

/**
 * Factors of the forward process at a timestep: x_t = signal * x_0 + noise * eps, and
 * the velocity target v_t = signal * eps - noise * x_0.
 */
export function forwardFactors(schedule: Schedule, timestep: number): { signal: number; noise: number } {
  const alpha = alphaCumprodAt(schedule, timestep);
  return { signal: f32(Math.sqrt(alpha)), noise: f32(Math.sqrt(f32(1 - alpha))) };
}
