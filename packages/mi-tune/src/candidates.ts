/**
 * Candidates of prompts, with their mutual information summed in the same sampling loop (MI-TUNE, algorithm 2).
 *
 * Candidate m is the picture that text-to-image generation makes with seed + m: it can be made again at any time, by
 * any process, and all prompts are compared under equal noise.
 */
import { invalid, type JobContext } from '@equipoise/core';
import { createSampler, denoise, latentNoise } from '@equipoise/diffusion';
import * as tf from '@tensorflow/tfjs-core';
import { miWeight, TRUNCATION } from './mi-weight.js';
import { type DiffusionParts, encodePrompts, partsSchedule } from './parts.js';
import type { SamplingOptions } from './sampling.js';
import { allSavings, type FirstPredictions, type Savings, scoringSampler } from './savings.js';

export type { SamplingOptions } from './sampling.js';

export interface CandidateRequest {
  readonly prompt: string;
  readonly candidate: number;
}

export interface CandidateComputation {
  /** Default: all. `earlyStop` is the caller's: see `finish`. */
  readonly savings?: Savings;
  /** Where {@link Savings.firstStep} finds what other prompts have computed. */
  readonly first?: FirstPredictions | undefined;
}

export interface CandidateBatch {
  /** Score of each candidate, nats. */
  readonly mi: Float64Array;
  /** Latents after the last step that was run [N, h, w, c]; the caller frees them. */
  readonly latents: tf.Tensor4D;
}

/**
 * Makes candidates of several prompts together.
 *
 * @param finish false stops after the last step that counts: the latents are then not yet pictures
 */
export async function sampleCandidates(
  parts: DiffusionParts,
  requests: readonly CandidateRequest[],
  options: SamplingOptions,
  finish: boolean,
  context: JobContext = {},
  { savings = allSavings(true), first }: CandidateComputation = {},
): Promise<CandidateBatch> {
  const schedule = partsSchedule(parts);
  const full = createSampler(parts.scheduler, { steps: options.steps }, schedule);
  const { truncation = TRUNCATION } = options;
  if (!full.timesteps.some((timestep) => timestep > truncation))
    throw invalid('steps', `steps of which one lies above timestep ${truncation}`, options.steps);
  const sampler = finish ? full : scoringSampler(full, truncation);
  const states = encodePrompts(parts, ['', ...new Set(requests.map(({ prompt }) => prompt))]);
  const seeds = requests.map(({ candidate }) => options.seed + candidate);
  const noise = latentNoise('philox', [requests.length, ...parts.latentShape], options.seed, seeds);
  const initial = tf.tidy(() => tf.mul(noise.initial(), full.initNoiseSigma) as tf.Tensor4D);
  const conditioning = { ...tf.tidy(() => contexts(states, requests)), promptIndex: promptRows(requests) };
  states.dispose();
  const firstUncond = savings.firstStep ? first?.take(requests.map(({ candidate }) => candidate)) : undefined;
  try {
    const { latents, mi } = await denoise(initial, {
      unet: parts.unet,
      sampler,
      conditioning,
      guidance: options.guidance,
      noise: (index) => noise.step(index),
      miWeight: (timestep) => miWeight(schedule, timestep, options),
      ...(firstUncond !== undefined && { firstUncond }),
      savings,
      ...context,
    });
    return { mi: scores(mi, sampler.timesteps, requests.length, options.truncation), latents };
  } finally {
    tf.dispose([initial, conditioning.cond, conditioning.uncond, ...(firstUncond ? [firstUncond] : [])]);
  }
}

/** Which of the distinct prompts each request has. */
function promptRows(requests: readonly CandidateRequest[]): number[] {
  const distinct = [...new Set(requests.map(({ prompt }) => prompt))];
  return requests.map(({ prompt }) => distinct.indexOf(prompt));
}

/** The text states of each request, from the states of '' and the distinct prompts. */
function contexts(
  states: tf.Tensor3D,
  requests: readonly CandidateRequest[],
): { cond: tf.Tensor3D; uncond: tf.Tensor3D } {
  const rows = promptRows(requests).map((row) => row + 1);
  return {
    cond: tf.gather(states, tf.tensor1d(rows, 'int32')),
    uncond: tf.gather(states, tf.zeros([requests.length], 'int32')),
  };
}

/** Means over the steps that count, for each image. */
function scores(
  sums: readonly Float32Array[],
  timesteps: readonly number[],
  count: number,
  truncation = TRUNCATION,
): Float64Array {
  const kept = sums.filter((_, i) => (timesteps[i] as number) > truncation);
  return Float64Array.from(
    { length: count },
    (_, n) => kept.reduce((total, step) => total + (step[n] as number), 0) / kept.length,
  );
}
