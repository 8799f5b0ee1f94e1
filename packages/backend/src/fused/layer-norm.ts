/**
 * Layer normalisation over the last axis (Ba, Kiros and Hinton, "Layer Normalization", 2016).
 *
 *   x [..., C], R rows;  mu, var over C (biased);  r = (var + eps)^-1/2;  h = (x - mu) r;  y = h gamma + beta
 *
 * Backward, with g = dy gamma and means over C:  dx = r (g - mean(g) - h mean(g h)),
 * dgamma = sum_rows dy h, dbeta = sum_rows dy.
 *
 * Bytes: forward x read, y written; backward x and dy read, dx written. FLOPs: about 8 per element forward,
 * 11 backward; the statistics are always in f32.
 */
import * as tf from '@tensorflow/tfjs-core';
import { checkKeys, checkNumber, checkTensor, rangeError, typeError } from './checks.js';
import { defineKernel, onlyFirst, shared } from './define.js';

/** Options of {@link layerNorm}. */
export interface LayerNormOptions {
  /** Added to the variance. */
  epsilon: number;
}

/** Inputs of the kernel `LayerNorm`; it returns [y, mean [R], rstd [R]]. */
export interface LayerNormInputs {
  x: tf.Tensor;
  gamma: tf.Tensor;
  beta: tf.Tensor;
}

/** Inputs of the kernel `LayerNormGrad`; it returns dx. */
export interface LayerNormGradInputs {
  x: tf.Tensor;
  gamma: tf.Tensor;
  mean: tf.Tensor;
  rstd: tf.Tensor;
  dy: tf.Tensor;
}

/** Inputs of the kernel `LayerNormParamGrad`; it returns [dgamma, dbeta]. */
export type LayerNormParamGradInputs = Omit<LayerNormGradInputs, 'gamma'>;

const rowsOf = (x: tf.Tensor): [number, number] => {
  const channels = x.shape[x.rank - 1] as number;
  return [tf.util.sizeFromShape(x.shape.slice(0, -1)), channels];
};

const normalised = ({ x, mean, rstd }: LayerNormParamGradInputs): tf.Tensor =>
  tf.mul(tf.sub(tf.reshape(x, rowsOf(x)), tf.expandDims(mean, 1)), tf.expandDims(rstd, 1));

const runLayerNormGrad = defineKernel<LayerNormGradInputs, object>({
  name: 'LayerNormGrad',
  portable(inputs) {
    const { x, gamma, rstd, dy } = inputs;
    if (x.size === 0) return tf.zeros(x.shape);
    const h = normalised(inputs);
    const g = tf.mul(tf.reshape(dy, rowsOf(x)), gamma);
    const along = tf.mul(h, tf.mean(tf.mul(g, h), 1, true));
    const dx = tf.mul(tf.sub(tf.sub(g, tf.mean(g, 1, true)), along), tf.expandDims(rstd, 1));
    return tf.reshape(dx, x.shape);
  },
});

const runLayerNormParamGrad = defineKernel<LayerNormParamGradInputs, object>({
  name: 'LayerNormParamGrad',
  portable(inputs) {
    const { x, dy } = inputs;
    const [, channels] = rowsOf(x);
    if (x.size === 0) return [tf.zeros([channels]), tf.zeros([channels])];
    const dy2 = tf.reshape(dy, rowsOf(x));
    return [tf.sum(tf.mul(dy2, normalised(inputs)), 0), tf.sum(dy2, 0)];
  },
});

const runLayerNorm = defineKernel<LayerNormInputs, { epsilon: number }>({
  name: 'LayerNorm',
  portable({ x, gamma, beta }, { epsilon }) {
    const shape = rowsOf(x);
    if (x.size === 0) return [tf.zeros(x.shape), tf.zeros([shape[0]]), tf.fill([shape[0]], epsilon ** -0.5)];
    const x2 = tf.reshape(x, shape);
    const mean = tf.mean(x2, 1, true);
    const centred = tf.sub(x2, mean);
    const rstd = tf.rsqrt(tf.add(tf.mean(tf.square(centred), 1, true), epsilon));
    const y = tf.add(tf.mul(tf.mul(centred, rstd), gamma), beta);
    return [tf.reshape(y, x.shape), tf.squeeze(mean, [1]), tf.squeeze(rstd, [1])];
  },
  gradient: {
    inputsToSave: ['x', 'gamma'],
    outputsToSave: [false, true, true],
    backward([dy], saved) {
      const [x, gamma, mean, rstd] = saved as [tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor];
      const inputs = { x, mean, rstd, dy: dy as tf.Tensor };
      const params = shared(() => runLayerNormParamGrad<[tf.Tensor, tf.Tensor]>(inputs, {}));
      return {
        x: () => runLayerNormGrad({ ...inputs, gamma }, {}),
        gamma: () => params(0),
        beta: () => params(1),
      };
    },
  },
});

/**
 * Layer normalisation over the last axis.
 *
 * @param x [..., C], rank at least 1, C >= 1
 * @param gamma scale [C]
 * @param beta shift [C]
 * @returns the shape of x
 * @throws TypeError on a wrong kind of argument, RangeError on shapes or options that do not fit
 */
export function layerNorm<T extends tf.Tensor>(
  x: T,
  gamma: tf.Tensor,
  beta: tf.Tensor,
  options: LayerNormOptions,
): T {
  const op = 'layerNorm';
  if (typeof options !== 'object' || options === null)
    throw typeError(op, 'options', 'an object with epsilon', options);
  checkKeys(op, options, ['epsilon']);
  checkNumber(op, 'epsilon', options.epsilon, 0);
  checkTensor(op, 'x', x);
  const channels = x.shape[x.rank - 1];
  if (channels === undefined || channels === 0)
    throw rangeError(op, 'x', 'rank and channels of at least 1', x);
  checkTensor(op, 'gamma', gamma, [channels]);
  checkTensor(op, 'beta', beta, [channels]);
  return onlyFirst(runLayerNorm<[T, tf.Tensor, tf.Tensor]>({ x, gamma, beta }, { epsilon: options.epsilon }));
}
