/** Confidence intervals by the percentile bootstrap: Efron and Tibshirani (1993), chapter 13. */
import { invalid, PhiloxSequence } from '@equipoise/core';
import { checkFinite } from './matrix.js';

export interface BootstrapOptions {
  /** Default 0. The same seed gives the same interval. */
  seed?: number;
  /** Resamples; default 2000. */
  resamples?: number;
  /** Confidence, between 0 and 1; default 0.95. */
  level?: number;
}

/** An estimate with its interval. */
export interface Estimate {
  readonly value: number;
  readonly low: number;
  readonly high: number;
  /** Standard deviation of the resampled statistic. */
  readonly standardError: number;
  /** Size of the sample. */
  readonly count: number;
}

/** The value below which a share `q` of sorted values lies, interpolating linearly (numpy's default). */
export function quantile(sorted: ArrayLike<number>, q: number): number {
  if (sorted.length === 0) throw invalid('values', 'at least one number', sorted);
  const position = q * (sorted.length - 1);
  const index = Math.min(Math.floor(position), sorted.length - 1);
  const low = sorted[index] as number;
  const high = sorted[Math.min(index + 1, sorted.length - 1)] as number;
  return low + (high - low) * (position - index);
}

/** Independent indices 0..count-1; the bias of the multiplication is below count / 2^32. */
function resampleIndices(random: PhiloxSequence, out: Uint32Array, count: number): void {
  for (let i = 0; i < out.length; i++) out[i] = Math.floor((random.u32() * count) / 2 ** 32);
}

/**
 * Bootstraps any statistic of a sample of `count` items.
 * @param statistic given the indices of a resample, returns the statistic; the identity gives the estimate
 */
export function bootstrap(
  count: number,
  statistic: (indices: Uint32Array) => number,
  options: BootstrapOptions = {},
): Estimate {
  const { seed = 0, resamples = 2000, level = 0.95 } = options;
  if (!Number.isInteger(count) || count < 1) throw invalid('sample size', 'at least 1', count);
  if (!Number.isInteger(resamples) || resamples < 2) throw invalid('resamples', 'an integer >= 2', resamples);
  if (!(level > 0 && level < 1)) throw invalid('level', 'a number between 0 and 1', level);
  const value = statistic(Uint32Array.from({ length: count }, (_, i) => i));
  const random = new PhiloxSequence(seed);
  const indices = new Uint32Array(count);
  const draws = Float64Array.from({ length: resamples }, () => {
    resampleIndices(random, indices, count);
    return statistic(indices);
  }).sort();
  const tail = (1 - level) / 2;
  const mean = draws.reduce((sum, x) => sum + x, 0) / resamples;
  const variance = draws.reduce((sum, x) => sum + (x - mean) ** 2, 0) / (resamples - 1);
  return {
    value,
    low: quantile(draws, tail),
    high: quantile(draws, 1 - tail),
    standardError: Math.sqrt(variance),
    count,
  };
}

/** The mean of values with a bootstrap interval. */
export function meanWithInterval(values: ArrayLike<number>, options: BootstrapOptions = {}): Estimate {
  checkFinite('values', values);
  const mean = (indices: Uint32Array): number => {
    let sum = 0;
    for (const index of indices) sum += values[index] as number;
    return sum / indices.length;
  };
  return bootstrap(values.length, mean, options);
}
