import type { PredictionType } from '../scheduler-config.js';
import type { Prediction } from './types.js';

const f32 = Math.fround;

/**
 * The predicted image and noise as affine functions of the noisy x and the model's output, for
 * x = sqrt(alpha) x0 + sqrt(1 - alpha) eps and v = sqrt(alpha) eps - sqrt(1 - alpha) x0
 * (Salimans and Ho 2022).
 * @param alpha cumulative signal at the timestep, in (0, 1]
 */
export function makePrediction(type: PredictionType, alpha: number): Prediction {
  const signal = f32(Math.sqrt(alpha));
  const noise = f32(Math.sqrt(f32(1 - alpha)));
  switch (type) {
    case 'epsilon':
      return { x0: { x: 1 / signal, m: -noise / signal }, eps: { x: 0, m: 1 } };
    case 'v_prediction':
      return { x0: { x: signal, m: -noise }, eps: { x: noise, m: signal } };
    case 'sample':
      return { x0: { x: 0, m: 1 }, eps: { x: 1 / noise, m: -signal / noise } };
  }
}
