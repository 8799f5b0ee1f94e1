/** Learning-rate schedule: linear warm-up, then half a cosine down to a floor. */
import { invalid } from '@equipoise/core';

export interface RateSchedule {
  readonly peak: number;
  /** Steps of the warm-up. */
  readonly warmup: number;
  /** Rate at the last step as a share of the peak. */
  readonly floor: number;
}

/** Learning rate of update `step` (from 1) of `steps`. */
export function rateAt(step: number, steps: number, { peak, warmup, floor }: RateSchedule): number {
  if (!(step >= 1 && step <= steps)) throw invalid('step', `1 to ${steps}`, step);
  if (step <= warmup) return (peak * step) / warmup;
  const progress = (step - warmup) / Math.max(1, steps - warmup);
  return peak * (floor + ((1 - floor) * (1 + Math.cos(Math.PI * progress))) / 2);
}
