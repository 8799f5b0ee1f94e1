/** Which training timesteps an n-step sampler visits (Lin et al. 2023, Table 2). */
import { invalid, roundHalfEven } from '@equipoise/core';

export type TimestepSpacing = 'leading' | 'trailing' | 'linspace';

function checkCount(steps: number, trainSteps: number): void {
  if (!Number.isInteger(steps) || steps < 1 || steps > trainSteps) {
    throw invalid('number of inference steps', `an integer from 1 to ${trainSteps}`, steps);
  }
}

/** Evenly spaced values from 0 to `last`, both included, in double precision. */
function evenly(last: number, count: number): number[] {
  if (count === 1) return [0];
  const step = last / (count - 1);
  return Array.from({ length: count }, (_, i) => (i === count - 1 ? last : i * step));
}

/**
 * Counts down from `trainSteps` by trainSteps/steps, ending above 0. The stride is the difference of
 * the first two values rather than the quotient, and the length a ceiling: both as numpy's arange.
 */
function countDown(trainSteps: number, steps: number): number[] {
  const quotient = trainSteps / steps;
  const stride = trainSteps - quotient - trainSteps;
  return Array.from({ length: Math.ceil(trainSteps / quotient) }, (_, i) => trainSteps + i * stride);
}

/**
 * Whole timesteps in the order a sampler visits them (descending).
 * @param offset added with `leading` spacing only
 */
export function spacedTimesteps(
  spacing: TimestepSpacing,
  steps: number,
  trainSteps: number,
  offset: number,
): number[] {
  checkCount(steps, trainSteps);
  switch (spacing) {
    case 'leading': {
      const stride = Math.floor(trainSteps / steps);
      return Array.from({ length: steps }, (_, i) => (steps - 1 - i) * stride + offset);
    }
    case 'trailing':
      return countDown(trainSteps, steps).map((t) => roundHalfEven(t) - 1);
    case 'linspace':
      return evenly(trainSteps - 1, steps)
        .map(roundHalfEven)
        .reverse();
    default:
      throw invalid('timestep_spacing', "'leading', 'trailing' or 'linspace'", spacing);
  }
}

/**
 * Timesteps that need not be whole, in single precision: `linspace` is not rounded, the other
 * spacings are as in {@link spacedTimesteps}.
 */
export function fractionalTimesteps(
  spacing: TimestepSpacing,
  steps: number,
  trainSteps: number,
  offset: number,
): number[] {
  if (spacing !== 'linspace') return spacedTimesteps(spacing, steps, trainSteps, offset);
  checkCount(steps, trainSteps);
  return evenly(trainSteps - 1, steps)
    .map(Math.fround)
    .reverse();
}
