/**
 * What a sweep need not compute, with the same scores to the last bit where the engine computes a picture the same way
 * whatever its batch (the CPU engine does):
 *
 *   earlyStop     timesteps up to 50 do not count: candidates are scored without their last steps; only the chosen ones
 *                 are made again to the end (5.9 % of a 50-step sweep of Stable Diffusion 2.1)
 *   sharedPrefix  both branches of guidance see the same latent: everything before the first cross-attention runs once
 *                 (2.6 %)
 *   firstStep     candidate m of every prompt starts from the same noise: its first unconditional prediction is made once
 *                 for all prompts (1.05 %)
 *   keysOnce      keys and values of a prompt are projected once for all steps and candidates of a batch (0.5 %)
 */
import { createSampler, latentNoise, type Sampler } from '@equipoise/diffusion';
import * as tf from '@tensorflow/tfjs-core';
import { TRUNCATION } from './mi-weight.js';
import { type DiffusionParts, encodePrompts, partsSchedule } from './parts.js';
import type { SamplingOptions } from './sampling.js';

export interface Savings {
  readonly earlyStop: boolean;
  readonly sharedPrefix: boolean;
  readonly firstStep: boolean;
  readonly keysOnce: boolean;
}

/** All savings, or none. */
export function allSavings(on: boolean): Savings {
  return { earlyStop: on, sharedPrefix: on, firstStep: on, keysOnce: on };
}

/** The sampler without the steps at its end that no longer count: enough to score, not to see. */
export function scoringSampler(sampler: Sampler, truncation = TRUNCATION): Sampler {
  const counted = sampler.timesteps.filter((t) => t > truncation).length;
  return { ...sampler, timesteps: sampler.timesteps.slice(0, counted) };
}

/**
 * First unconditional predictions by candidate. They are made in groups that depend on the settings alone, so that a
 * sweep that was interrupted gets the same ones again. Holds one latent for each candidate number; free it with dispose().
 */
export class FirstPredictions {
  readonly #groups = new Map<number, tf.Tensor4D>();

  constructor(
    readonly parts: DiffusionParts,
    readonly sampling: SamplingOptions,
    /** Candidates per prompt. */
    readonly candidates: number,
    /** Candidates in one forward. */
    readonly group: number,
  ) {}

  /** The predictions for these candidates [N, h, w, c]; the caller frees them. */
  take(candidates: readonly number[]): tf.Tensor4D {
    return tf.tidy(() =>
      tf.concat(
        candidates.map((candidate) => {
          const index = Math.floor(candidate / this.group);
          const group = this.#groups.get(index) ?? this.#predict(index);
          this.#groups.set(index, group);
          return tf.slice(group, [candidate - index * this.group, 0, 0, 0], [1, -1, -1, -1]);
        }),
        0,
      ),
    );
  }

  dispose(): void {
    tf.dispose([...this.#groups.values()]);
    this.#groups.clear();
  }

  #predict(index: number): tf.Tensor4D {
    const { parts, sampling } = this;
    const from = index * this.group;
    const count = Math.min(this.group, this.candidates - from);
    const sampler = createSampler(parts.scheduler, { steps: sampling.steps }, partsSchedule(parts));
    const step = sampler.coefficients(0);
    const seeds = Array.from({ length: count }, (_, i) => sampling.seed + from + i);
    return tf.tidy(() => {
      const noise = latentNoise('philox', [count, ...parts.latentShape], sampling.seed, seeds).initial();
      const latents = tf.mul(tf.mul(noise, sampler.initNoiseSigma), step.inputScale) as tf.Tensor4D;
      const states = tf.tile(encodePrompts(parts, ['']), [count, 1, 1]);
      return tf.keep(parts.unet.forward(latents, step.timestep, states));
    });
  }
}
