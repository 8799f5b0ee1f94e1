import type { SchedulerConfig } from '../scheduler-config.js';
import type { Prediction, SamplerStep } from './types.js';

/** A step written over the predicted image and noise instead of the model's output. */
export interface PosteriorStep {
  timestep: number;
  prediction: Prediction;
  /** Factors of the predicted image, the predicted noise, the latents and fresh noise. */
  x0: number;
  eps: number;
  x: number;
  noise: number;
  drawsNoise: boolean;
}

/**
 * Rewrites x' = x0 X0 + eps E + x X + noise Z over the model's output. With clipping the image's
 * share cannot be folded into cx and ce: it stays apart as the step's `clip` term.
 */
export function combine(
  step: PosteriorStep,
  config: Pick<SchedulerConfig, 'clipSample' | 'clipSampleRange'>,
): SamplerStep {
  const { prediction } = step;
  const folded = config.clipSample ? 0 : step.x0;
  return {
    timestep: step.timestep,
    inputScale: 1,
    cx: folded * prediction.x0.x + step.eps * prediction.eps.x + step.x,
    ce: folded * prediction.x0.m + step.eps * prediction.eps.m,
    cn: step.noise,
    drawsNoise: step.drawsNoise,
    weights: [1],
    source: 'current',
    hold: false,
    remember: false,
    epsilonScale: prediction.eps.m,
    ...(config.clipSample && {
      clip: {
        cx: prediction.x0.x,
        ce: prediction.x0.m,
        weight: step.x0,
        range: config.clipSampleRange,
      },
    }),
  };
}
