/** Classifier-free guidance on tensors, and one sampler step with it. */
import { guidedStep, miSquaredNorm } from '@equipoise/backend';
import { EquipoiseError } from '@equipoise/core';
import * as tf from '@tensorflow/tfjs-core';
import type { SamplerStep } from '../samplers/index.js';

/** What a sampler carries from step to step, on the device. */
export interface TensorState {
  latents: tf.Tensor4D;
  /** Combined model outputs kept so far, newest first. */
  history: tf.Tensor4D[];
  held: tf.Tensor4D | null;
}

/** The model's outputs for a step; without guidance only the conditional one. */
export interface Predictions {
  readonly cond: tf.Tensor4D;
  readonly uncond: tf.Tensor4D | null;
}

export interface GuidanceSettings {
  readonly guidance: number;
  readonly guidanceRescale: number;
  /** Weight of the step's squared difference of predictions; 0 leaves it out. */
  readonly miWeight: number;
}

export type StepResult = {
  readonly latents: tf.Tensor4D;
  /** The output that the sampler used: guided, rescaled. */
  readonly output: tf.Tensor4D;
  /** miWeight * sum (cond - uncond)^2 for each image [N]; absent without an unconditional prediction. */
  readonly mi?: tf.Tensor1D;
};

/** Standard deviation of each image over all its elements, with n - 1 in the denominator: [N,1,1,1]. */
function deviation(x: tf.Tensor4D): tf.Tensor4D {
  const [, height, width, channels] = x.shape;
  const { variance } = tf.moments(x, [1, 2, 3], true);
  const count = height * width * channels;
  return tf.sqrt(tf.mul(variance, count / (count - 1))) as tf.Tensor4D;
}

/**
 * Brings the guided prediction's spread back to the conditional one's, by a share `rescale`: Lin et al.
 * (2023), section 3.4.
 */
export function rescaleGuidance(guided: tf.Tensor4D, cond: tf.Tensor4D, rescale: number): tf.Tensor4D {
  return tf.tidy(() => {
    const factor = tf.div(deviation(cond), deviation(guided));
    return tf.add(tf.mul(rescale, tf.mul(guided, factor)), tf.mul(1 - rescale, guided));
  });
}

/** The terms of a step besides latents and newest output: older outputs and noise; null when there are none. */
function extraTerm(step: SamplerStep, state: TensorState, noise: tf.Tensor4D | null): tf.Tensor4D | null {
  const terms: tf.Tensor[] = step.weights.slice(1).map((weight, k) => {
    const output = state.history[k];
    if (output === undefined)
      throw new EquipoiseError('internal', `sampler step needs ${k + 1} past outputs`);
    return tf.mul(step.ce * weight, output);
  });
  if (noise !== null && step.cn !== 0) terms.push(tf.mul(step.cn, noise));
  return terms.length === 0 ? null : (tf.addN(terms) as tf.Tensor4D);
}

function clipTerm(step: SamplerStep, source: tf.Tensor4D, output: tf.Tensor4D): tf.Tensor | null {
  if (step.clip === undefined) return null;
  const { cx, ce, weight, range } = step.clip;
  const image = tf.add(tf.mul(cx, source), tf.mul(ce, output));
  return tf.mul(weight, tf.clipByValue(image, -range, range));
}

/** Guidance, the squared difference of predictions and the update in one fused pass. */
function fusedStep(
  step: SamplerStep,
  source: tf.Tensor4D,
  predictions: { cond: tf.Tensor4D; uncond: tf.Tensor4D },
  settings: GuidanceSettings,
  extra: tf.Tensor4D | null,
): StepResult {
  const { latents, eps, mi } = guidedStep<tf.Tensor4D>({
    epsUncond: predictions.uncond,
    epsCond: predictions.cond,
    latents: source,
    guidance: settings.guidance,
    miWeight: settings.miWeight,
    cx: step.cx,
    ce: step.ce * (step.weights[0] as number),
    ...(extra !== null && { cn: 1, noise: extra }),
  });
  return { latents, output: eps, mi };
}

function plainStep(
  step: SamplerStep,
  source: tf.Tensor4D,
  { cond, uncond }: Predictions,
  settings: GuidanceSettings,
  extra: tf.Tensor4D | null,
): StepResult {
  const update = (output: tf.Tensor4D): tf.Tensor4D => {
    const moved = tf.add(tf.mul(step.cx, source), tf.mul(step.ce * (step.weights[0] as number), output));
    return (extra === null ? moved : tf.add(moved, extra)) as tf.Tensor4D;
  };
  if (uncond === null) return { latents: update(cond), output: tf.clone(cond) };
  const guided = tf.add(uncond, tf.mul(settings.guidance, tf.sub(cond, uncond))) as tf.Tensor4D;
  const output = rescaleGuidance(guided, cond, settings.guidanceRescale);
  const mi = miSquaredNorm(cond, uncond, tf.fill([cond.shape[0]], settings.miWeight));
  return { latents: update(output), output, mi };
}

/**
 * One step of any sampler on tensors. Guidance without rescaling takes the fused kernel.
 * @param noise unit normal noise, when the step draws it
 * @returns new tensors; the state's are not touched
 */
export function takeStep(
  step: SamplerStep,
  state: TensorState,
  predictions: Predictions,
  settings: GuidanceSettings,
  noise: tf.Tensor4D | null,
): StepResult {
  return tf.tidy(() => {
    const source = step.source === 'held' ? state.held : state.latents;
    if (source === null)
      throw new EquipoiseError('internal', 'sampler step needs latents that were not held');
    const extra = extraTerm(step, state, noise);
    const { cond, uncond } = predictions;
    const result =
      uncond !== null && settings.guidanceRescale === 0
        ? fusedStep(step, source, { cond, uncond }, settings, extra)
        : plainStep(step, source, predictions, settings, extra);
    const clipped = clipTerm(step, source, result.output);
    return clipped === null ? result : { ...result, latents: tf.add(result.latents, clipped) as tf.Tensor4D };
  });
}

/**
 * The state after a step. Frees what is no longer needed: the old latents unless held, outputs beyond the
 * sampler's history.
 */
export function nextState(
  step: SamplerStep,
  state: TensorState,
  result: StepResult,
  historyLength: number,
): TensorState {
  const history = step.remember ? [result.output, ...state.history] : state.history;
  for (const dropped of history.slice(historyLength)) dropped.dispose();
  if (!step.remember) result.output.dispose();
  state.held?.dispose();
  if (!step.hold) state.latents.dispose();
  return {
    latents: result.latents,
    history: history.slice(0, historyLength),
    held: step.hold ? state.latents : null,
  };
}
