/**
 * Group normalisation over channels-last tensors, optionally followed by SiLU in the same pass
 * (Wu and He, "Group Normalization", 2018).
 *
 *   x [N, ..., C], G groups of C/G neighbouring channels, P = product of the axes between
 *   mu, var over the P * C/G elements of a sample's group (biased variance);  r = (var + eps)^-1/2
 *   h = (x - mu) r;  z = h gamma + beta;  y = z, or z sigmoid(z)
 *
 * Backward, with g = dz gamma and means over the group:  dx = r (g - mean(g) - h mean(g h)),
 * dgamma = sum dz h, dbeta = sum dz, where dz = dy, or dy silu'(z) with z recomputed from mu and r.
 *
 * Bytes: forward x read (twice when a sample does not fit in cache), y written; backward x and dy read, dx written.
 * FLOPs: about 8 per element forward, 14 backward; the statistics are always in f32.
 */
import * as tf from '@tensorflow/tfjs-core';
import {
  checkInteger,
  checkKeys,
  checkNumber,
  checkOneOf,
  checkTensor,
  rangeError,
  typeError,
} from './checks.js';
import { defineKernel, onlyFirst, shared } from './define.js';
import { siluDerivative } from './silu.js';

/** Options of {@link groupNorm}. */
export interface GroupNormOptions {
  /** Number of groups; must divide the channels. */
  groups: number;
  /** Added to the variance. */
  epsilon: number;
  /** Applied to the result. Default 'none'. */
  activation?: 'none' | 'silu';
}

/** Attributes of the kernels `GroupNorm`, `GroupNormGrad` and `GroupNormParamGrad`. */
export interface GroupNormAttrs {
  groups: number;
  epsilon: number;
  activation: 'none' | 'silu';
}

/** Inputs of the kernel `GroupNorm`; it returns [y, mean [N,G], rstd [N,G]]. */
export interface GroupNormInputs {
  x: tf.Tensor;
  gamma: tf.Tensor;
  beta: tf.Tensor;
}

/** Inputs of `GroupNormGrad` (returns dx) and of `GroupNormParamGrad` (returns [dgamma, dbeta]). */
export interface GroupNormGradInputs extends GroupNormInputs {
  mean: tf.Tensor;
  rstd: tf.Tensor;
  dy: tf.Tensor;
}

type Shape4 = [number, number, number, number];

const grouped = (x: tf.Tensor, groups: number): Shape4 => {
  const batch = x.shape[0] as number;
  const channels = x.shape[x.rank - 1] as number;
  return [batch, tf.util.sizeFromShape(x.shape.slice(1, -1)), groups, channels / groups];
};

function composeForward({ x, gamma, beta }: GroupNormInputs, attrs: GroupNormAttrs): tf.Tensor[] {
  const shape = grouped(x, attrs.groups);
  const stats = [shape[0], attrs.groups];
  if (x.size === 0) return [tf.zeros(x.shape), tf.zeros(stats), tf.fill(stats, attrs.epsilon ** -0.5)];
  const x4 = tf.reshape(x, shape);
  const mean = tf.mean(x4, [1, 3], true);
  const centred = tf.sub(x4, mean);
  const rstd = tf.rsqrt(tf.add(tf.mean(tf.square(centred), [1, 3], true), attrs.epsilon));
  const z = tf.add(tf.mul(tf.reshape(tf.mul(centred, rstd), x.shape), gamma), beta);
  const y = attrs.activation === 'silu' ? tf.mul(z, tf.sigmoid(z)) : z;
  return [y, tf.reshape(mean, stats), tf.reshape(rstd, stats)];
}

/** The normalised input h as [N,P,G,C/G] and the gradient dz before the activation, shaped like x. */
function composeShared({ x, gamma, beta, mean, rstd, dy }: GroupNormGradInputs, attrs: GroupNormAttrs) {
  const shape = grouped(x, attrs.groups);
  const perGroup: Shape4 = [shape[0], 1, attrs.groups, 1];
  const h = tf.mul(tf.sub(tf.reshape(x, shape), tf.reshape(mean, perGroup)), tf.reshape(rstd, perGroup));
  if (attrs.activation === 'none') return { h, dz: dy, shape, perGroup };
  const z = tf.add(tf.mul(tf.reshape(h, x.shape), gamma), beta);
  return { h, dz: tf.mul(dy, siluDerivative(z)), shape, perGroup };
}

const runGroupNormGrad = defineKernel<GroupNormGradInputs, GroupNormAttrs>({
  name: 'GroupNormGrad',
  portable(inputs, attrs) {
    const { x, gamma, rstd } = inputs;
    if (x.size === 0) return tf.zeros(x.shape);
    const { h, dz, shape, perGroup } = composeShared(inputs, attrs);
    const g = tf.reshape(tf.mul(dz, gamma), shape);
    const along = tf.mul(h, tf.mean(tf.mul(g, h), [1, 3], true));
    const dx = tf.mul(tf.sub(tf.sub(g, tf.mean(g, [1, 3], true)), along), tf.reshape(rstd, perGroup));
    return tf.reshape(dx, x.shape);
  },
});

const runGroupNormParamGrad = defineKernel<GroupNormGradInputs, GroupNormAttrs>({
  name: 'GroupNormParamGrad',
  portable(inputs, attrs) {
    const { x, gamma } = inputs;
    if (x.size === 0) return [tf.zeros(gamma.shape), tf.zeros(gamma.shape)];
    const { h, dz } = composeShared(inputs, attrs);
    const axes = x.shape.map((_, axis) => axis).slice(0, -1);
    return [tf.sum(tf.mul(dz, tf.reshape(h, x.shape)), axes), tf.sum(dz, axes)];
  },
});

const runGroupNorm = defineKernel<GroupNormInputs, GroupNormAttrs>({
  name: 'GroupNorm',
  portable: composeForward,
  gradient: {
    inputsToSave: ['x', 'gamma', 'beta'],
    outputsToSave: [false, true, true],
    backward([dy], saved, attrs) {
      const [x, gamma, beta, mean, rstd] = saved as [tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor];
      const inputs = { x, gamma, beta, mean, rstd, dy: dy as tf.Tensor };
      const params = shared(() => runGroupNormParamGrad<[tf.Tensor, tf.Tensor]>(inputs, attrs));
      return { x: () => runGroupNormGrad(inputs, attrs), gamma: () => params(0), beta: () => params(1) };
    },
  },
});

/**
 * Group normalisation of a channels-last tensor, with optional SiLU.
 *
 * @param x [N, ..., C], rank at least 2
 * @param gamma scale [C]
 * @param beta shift [C]
 * @returns the shape of x
 * @throws TypeError on a wrong kind of argument, RangeError on shapes or options that do not fit
 */
export function groupNorm<T extends tf.Tensor>(
  x: T,
  gamma: tf.Tensor,
  beta: tf.Tensor,
  options: GroupNormOptions,
): T {
  const op = 'groupNorm';
  if (typeof options !== 'object' || options === null) {
    throw typeError(op, 'options', 'an object with groups and epsilon', options);
  }
  checkKeys(op, options, ['groups', 'epsilon', 'activation']);
  const { groups, epsilon, activation = 'none' } = options;
  checkInteger(op, 'groups', groups, 1);
  checkNumber(op, 'epsilon', epsilon, 0);
  checkOneOf(op, 'activation', activation, ['none', 'silu']);
  checkTensor(op, 'x', x);
  if (x.rank < 2) throw rangeError(op, 'x', 'rank at least 2', x);
  const channels = x.shape[x.rank - 1] as number;
  if (channels === 0 || channels % groups !== 0)
    throw rangeError(op, 'x', `channels divisible by ${groups} groups`, x);
  checkTensor(op, 'gamma', gamma, [channels]);
  checkTensor(op, 'beta', beta, [channels]);
  return onlyFirst(
    runGroupNorm<[T, tf.Tensor, tf.Tensor]>({ x, gamma, beta }, { groups, epsilon, activation }),
  );
}
