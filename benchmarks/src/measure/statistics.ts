/** Small statistics of samples. */

/** Median; NaN of nothing. */
export function median(values: readonly number[]): number {
  if (values.length === 0) return Number.NaN;
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const high = sorted[middle] as number;
  return sorted.length % 2 === 1 ? high : ((sorted[middle - 1] as number) + high) / 2;
}

/** Geometric mean; NaN of nothing. */
export function geometricMean(values: readonly number[]): number {
  return Math.exp(values.reduce((sum, value) => sum + Math.log(value), 0) / values.length);
}

/**
 * Interval of the ratio of two medians by the bootstrap: both lists are resampled, and the share `1 - 2 * tail` in the
 * middle of the ratios is given.
 *
 * @param random numbers in [0, 1)
 */
export function ratioInterval(
  numerator: readonly number[],
  denominator: readonly number[],
  random: () => number,
  { resamples = 2000, tail = 0.005 } = {},
): { low: number; high: number } {
  const resample = (values: readonly number[]): number[] =>
    values.map(() => values[Math.floor(random() * values.length)] as number);
  const ratios = Array.from(
    { length: resamples },
    () => median(resample(numerator)) / median(resample(denominator)),
  );
  ratios.sort((a, b) => a - b);
  const at = (share: number): number =>
    ratios[Math.min(resamples - 1, Math.floor(share * resamples))] as number;
  return { low: at(tail), high: at(1 - tail) };
}
