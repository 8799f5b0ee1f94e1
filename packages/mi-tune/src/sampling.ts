/** How candidates are drawn and weighed: together with the model, all that a score depends on. */
import type { MiWeightOptions } from './mi-weight.js';

export interface SamplingOptions extends MiWeightOptions {
  readonly seed: number;
  readonly steps: number;
  readonly guidance: number;
}
