/**
 * One step of a guided sampler in one pass over the latents: classifier-free guidance (Ho and Salimans, 2022), the
 * step's mutual-information term, and the update of any sampler whose step is linear in latents, prediction and noise.
 *
 *   eps   = eu + g (ec - eu)
 *   x'    = cx x + ce eps + cn noise
 *   mi_b  = w sum_e (ec_be - eu_be)^2            (of the raw predictions, before guidance)
 *
 * ec, eu, x, noise [B, ...]; g, w, cx, ce, cn are numbers of the step. Not differentiable: sampling has no gradient.
 *
 * Bytes per element: ec, eu, x (and noise) read, x' and eps written. FLOPs: 10 per element.
 */
import * as tf from '@tensorflow/tfjs-core';
import { checkKeys, checkNumber, checkTensor, rangeError, typeError } from './checks.js';
import { defineKernel } from './define.js';
import { squaredDistance } from './mi-squared-norm.js';

/** Arguments of {@link guidedStep}. */
export interface GuidedStepOptions {
  /** Unconditional prediction [B, ...]. */
  epsUncond: tf.Tensor;
  /** Conditional prediction, same shape. */
  epsCond: tf.Tensor;
  /** Current latents, same shape. */
  latents: tf.Tensor;
  /** Guidance scale; 1 is the conditional prediction alone. */
  guidance: number;
  /** Weight w(t) of the mutual-information term; 0 where the step does not count. */
  miWeight: number;
  /** Coefficient of the latents. */
  cx: number;
  /** Coefficient of the guided prediction. */
  ce: number;
  /** Coefficient of the noise; needs `noise`. Default 0. */
  cn?: number;
  /** Fresh noise, same shape; needs `cn`. */
  noise?: tf.Tensor;
}

/** Inputs of the kernel `GuidedStep`; it returns [x', eps, mi [B]]. */
export interface GuidedStepInputs {
  epsUncond: tf.Tensor;
  epsCond: tf.Tensor;
  latents: tf.Tensor;
  noise?: tf.Tensor;
}

/** Attributes of the kernel `GuidedStep`. */
export interface GuidedStepAttrs {
  guidance: number;
  miWeight: number;
  cx: number;
  ce: number;
  cn: number;
}

const run = defineKernel<GuidedStepInputs, GuidedStepAttrs>({
  name: 'GuidedStep',
  portable({ epsUncond, epsCond, latents, noise }, { guidance, miWeight, cx, ce, cn }) {
    const eps = tf.add(epsUncond, tf.mul(guidance, tf.sub(epsCond, epsUncond)));
    const moved = tf.add(tf.mul(cx, latents), tf.mul(ce, eps));
    const next = noise === undefined ? moved : tf.add(moved, tf.mul(cn, noise));
    return [next, eps, tf.mul(miWeight, squaredDistance(epsCond, epsUncond))];
  },
});

/**
 * Combines the two predictions, sums the mutual-information term and takes the sampler's step.
 *
 * @returns the next latents and the guided prediction [B, ...], and mi [B] = miWeight * sum (epsCond - epsUncond)^2
 * @throws TypeError on a wrong kind of argument, RangeError on shapes or numbers that do not fit
 */
export function guidedStep<T extends tf.Tensor = tf.Tensor>(
  options: GuidedStepOptions,
): { latents: T; eps: T; mi: tf.Tensor1D } {
  const op = 'guidedStep';
  if (typeof options !== 'object' || options === null) throw typeError(op, 'options', 'an object', options);
  checkKeys(op, options, [
    'epsUncond',
    'epsCond',
    'latents',
    'guidance',
    'miWeight',
    'cx',
    'ce',
    'cn',
    'noise',
  ]);
  const { epsUncond, epsCond, latents, guidance, miWeight, cx, ce, cn = 0, noise } = options;
  checkTensor(op, 'latents', latents);
  if (latents.rank < 1) throw rangeError(op, 'latents', 'rank at least 1', latents);
  checkTensor(op, 'epsUncond', epsUncond, latents.shape);
  checkTensor(op, 'epsCond', epsCond, latents.shape);
  for (const [name, value] of Object.entries({ guidance, miWeight, cx, ce, cn }))
    checkNumber(op, name, value);
  if (noise !== undefined) checkTensor(op, 'noise', noise, latents.shape);
  if (noise === undefined && cn !== 0) throw typeError(op, 'noise', `a tensor, because cn is ${cn}`, noise);
  if (noise !== undefined && options.cn === undefined)
    throw typeError(op, 'cn', 'a number, because noise is given', cn);
  const inputs: GuidedStepInputs = {
    epsUncond,
    epsCond,
    latents,
    ...(noise !== undefined && cn !== 0 && { noise }),
  };
  const [next, eps, mi] = run<[T, T, tf.Tensor1D]>(inputs, { guidance, miWeight, cx, ce, cn });
  return { latents: next, eps, mi };
}
