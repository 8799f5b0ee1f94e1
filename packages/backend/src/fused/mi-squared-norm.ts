/**
 * The summand of point-wise mutual information in a diffusion model (MI-TUNE, algorithm 2): for every sample b of a
 * batch, the weighted squared distance between the conditional and the unconditional noise prediction.
 *
 *   mi_b = w_b sum_e (ec_be - eu_be)^2                ec, eu [B, ...];  w, mi [B]
 *   dec = 2 dmi_b w_b (ec - eu);  deu = -dec;  dw_b = dmi_b sum_e (ec_be - eu_be)^2
 *
 * Bytes: ec and eu read once (backward: and one written). FLOPs: 3 per element. Sums are in f32 or wider.
 */
import * as tf from '@tensorflow/tfjs-core';
import { checkTensor, rangeError } from './checks.js';
import { defineKernel, type Launch, shared } from './define.js';

/** Inputs of the kernel `MISquaredNorm`. */
export interface MISquaredNormInputs {
  epsCond: tf.Tensor;
  epsUncond: tf.Tensor;
  weights: tf.Tensor;
}

const asSamples = (x: tf.Tensor): tf.Tensor2D => {
  const batch = x.shape[0] as number;
  return tf.reshape(x, [batch, tf.util.sizeFromShape(x.shape.slice(1))]);
};

/** sum over everything but the batch of (a - b)^2, [B]; 0 for empty samples. */
export function squaredDistance(a: tf.Tensor, b: tf.Tensor): tf.Tensor1D {
  if (a.size === 0) return tf.zeros([a.shape[0] as number]);
  return tf.sum(tf.square(asSamples(tf.sub(a, b))), 1);
}

const runGrad = defineKernel<MISquaredNormInputs & { dy: tf.Tensor }, object>({
  name: 'MISquaredNormGrad',
  portable({ epsCond, epsUncond, weights, dy }) {
    const factor = tf.mul(2, tf.mul(dy, weights));
    const perSample = tf.reshape(factor, [factor.size, ...epsCond.shape.slice(1).map(() => 1)]);
    return tf.mul(perSample, tf.sub(epsCond, epsUncond));
  },
});

const run: Launch<MISquaredNormInputs, object> = defineKernel<MISquaredNormInputs, object>({
  name: 'MISquaredNorm',
  portable: ({ epsCond, epsUncond, weights }) => tf.mul(weights, squaredDistance(epsCond, epsUncond)),
  gradient: {
    inputsToSave: ['epsCond', 'epsUncond', 'weights'],
    backward([dy], saved) {
      const [epsCond, epsUncond, weights] = saved as [tf.Tensor, tf.Tensor, tf.Tensor];
      const upstream = dy as tf.Tensor;
      const grad = shared((): [tf.Tensor] => [runGrad({ epsCond, epsUncond, weights, dy: upstream }, {})]);
      return {
        // A copy of its own for each input: the tape disposes of gradients that it has added up.
        epsCond: () => tf.clone(grad(0)),
        epsUncond: () => tf.neg(grad(0)),
        weights: () => run({ epsCond, epsUncond, weights: upstream }, {}),
      };
    },
  },
});

/**
 * Weighted squared distance between two noise predictions, per sample: weights[b] * sum (epsCond - epsUncond)^2.
 *
 * @param epsCond conditional prediction [B, ...]
 * @param epsUncond unconditional prediction, same shape
 * @param weights w(t) of each sample [B]
 * @returns [B]
 * @throws TypeError on a wrong kind of argument, RangeError on shapes that do not fit
 */
export function miSquaredNorm(epsCond: tf.Tensor, epsUncond: tf.Tensor, weights: tf.Tensor): tf.Tensor1D {
  const op = 'miSquaredNorm';
  checkTensor(op, 'epsCond', epsCond);
  if (epsCond.rank < 1) throw rangeError(op, 'epsCond', 'rank at least 1', epsCond);
  checkTensor(op, 'epsUncond', epsUncond, epsCond.shape);
  checkTensor(op, 'weights', weights, [epsCond.shape[0] as number]);
  return run<tf.Tensor1D>({ epsCond, epsUncond, weights }, {});
}
