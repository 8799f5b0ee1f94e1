/**
 * ITI-GEN's loss for one attribute (Zhang et al., "ITI-GEN: Inclusive Text-to-Image Generation", ICCV 2023,
 * equations 3 to 5), over all pairs of its categories in all contexts, with its gradient in the same launch.
 *
 *   t [N, D] text features, N = prod K_a combinations, first attribute slowest;  u = t / |t|
 *   m [K, D] mean unit image feature of each category of the updated attribute;  o [D] the plain prompt, o / |o|
 *   contexts: the C = N / K combinations of the other attributes;  u_k the text of category k in a context
 *
 *   cos_ij  = <m_i - m_j, u_i - u_j> / (|m_i - m_j| |u_i - u_j|)
 *   L_dir   = sum_{i<j} mean_contexts (1 - cos_ij) / (K - 1)
 *   L_con   = sum_{i<j} mean_contexts relu(lambda - (<o, u_i> + <o, u_j>) / 2) / (K - 1)
 *   loss    = L_dir + L_con
 *
 * Fallback: where a direction does not exist for any pair and context, because two texts coincide (as they do before
 * the first update), two image means coincide or a category has no image, L_dir as a whole is replaced by
 *   L_cos   = sum_n (1 - <u_n, m_k(n)>) / C        (0 for a text whose category has no image)
 * A difference of unit features counts as zero below 1e-6, the noise of f32 features; the published code tests for
 * NaN, that is for exactly zero.
 *
 * Gradient: with w = 1 / (C (K-1)), v = the unit image direction, d = u_i - u_j,
 *   du_i += w (cos d/|d| - v) / |d|,  du_j -= the same;  du_i, du_j -= w o / 2 where the hinge is open;
 *   fallback du_n = -m_k(n) / C;   dt_n = (du_n - u_n <u_n, du_n>) / |t_n|
 *
 * Bytes: t read, dt written: 8 N D. FLOPs: about 10 C K(K-1)/2 D. Launch-bound in practice.
 */
import * as tf from '@tensorflow/tfjs-core';
import { checkInteger, checkKeys, checkNumber, checkTensor, rangeError, typeError } from './checks.js';
import { defineKernel, detached } from './define.js';

/** Differences of unit features at or below this norm have no direction. */
export const DIRECTION_FLOOR = 1e-6;

/** Arguments of {@link directionAlignmentLoss}. */
export interface DirectionAlignmentOptions {
  /** Text features of all combinations [N, D]; any length, normalised inside. */
  text: tf.Tensor;
  /** Feature of the plain prompt [D]; any length, normalised inside. */
  original: tf.Tensor;
  /** Mean of the unit image features of each category of the updated attribute [K, D]; not normalised again. */
  imageMeans: tf.Tensor;
  /** Number of categories of every attribute; their product is N. */
  categories: readonly number[];
  /** Index of the updated attribute; categories[attribute] is K, at least 2. */
  attribute: number;
  /** Similarity to the plain prompt below which the consistency hinge opens (lambda). */
  consistency: number;
  /** Images behind each mean [K]; a category with 0 is absent and its row of `imageMeans` is ignored. */
  imageCounts?: readonly number[];
}

/** Result of {@link directionAlignmentLoss}. */
export interface DirectionAlignmentResult {
  /** The loss; differentiable with respect to `text`. */
  loss: tf.Scalar;
  /** [L_dir or its replacement, L_con, 1 if replaced else 0]; for logs, not differentiable. */
  parts: tf.Tensor1D;
  /** Mean over contexts of cos_ij for each pair (0,1), (0,2), ..., (K-2,K-1); for logs, not differentiable. */
  pairCosine: tf.Tensor1D;
}

/** Inputs of the kernel `DirectionAlignmentLoss`; it returns [loss [], dtext [N,D], parts [3], pairCosine [P]]. */
export interface DirectionAlignmentInputs {
  text: tf.Tensor;
  original: tf.Tensor;
  imageMeans: tf.Tensor;
}

/** Attributes of the kernel `DirectionAlignmentLoss`. */
export interface DirectionAlignmentAttrs {
  /** Combinations of the attributes before the updated one. */
  before: number;
  /** Categories of the updated attribute, K. */
  categories: number;
  /** Combinations of the attributes after the updated one. */
  after: number;
  consistency: number;
  /** 1 for a category with images, 0 for an absent one [K]. */
  present: number[];
}

/** The pairs i < j as a signed [P, K] matrix: +1 at i, -1 at j. */
function pairMatrix(k: number): tf.Tensor2D {
  const pairs = (k * (k - 1)) / 2;
  const values = new Float32Array(pairs * k);
  let row = 0;
  for (let i = 0; i < k; i++) {
    for (let j = i + 1; j < k; j++, row++) {
      values[row * k + i] = 1;
      values[row * k + j] = -1;
    }
  }
  return tf.tensor2d(values, [pairs, k]);
}

const lengths = (x: tf.Tensor): tf.Tensor => tf.sqrt(tf.sum(tf.square(x), -1, true));

/** 1 where the length has a direction, else 0. */
const hasDirection = (length: tf.Tensor): tf.Tensor =>
  tf.cast(tf.greater(length, DIRECTION_FLOOR), 'float32');

/** x / length where it has a direction, else 0. */
const direction = (x: tf.Tensor, length: tf.Tensor): tf.Tensor =>
  tf.where(tf.greater(length, DIRECTION_FLOOR), tf.div(x, length), tf.zerosLike(x));

interface Direction {
  loss: tf.Tensor;
  du: tf.Tensor;
  pairCosine: tf.Tensor;
  exists: tf.Scalar;
}

/** L_dir and its gradient with respect to u [K, C, D]. */
function composeDirection(u: tf.Tensor, means: tf.Tensor2D, present: tf.Tensor1D): Direction {
  const [k, contexts, depth] = u.shape as [number, number, number];
  const pairs = pairMatrix(k);
  const count = pairs.shape[0];
  const weight = 1 / (contexts * (k - 1));
  const image = tf.matMul(pairs, means);
  const imageLength = lengths(image);
  const v = tf.expandDims(direction(image, imageLength), 1);
  const d = tf.reshape(tf.matMul(pairs, tf.reshape(u, [k, contexts * depth])), [count, contexts, depth]);
  const length = lengths(d);
  const unit = direction(d, length);
  const cosine = tf.sum(tf.mul(v, unit), 2, true);
  const slope = tf.mul(weight, tf.div(tf.sub(tf.mul(cosine, unit), v), tf.maximum(length, DIRECTION_FLOOR)));
  const du = tf.matMul(pairs, tf.reshape(slope, [count, contexts * depth]), true, false);
  const flags = [length, imageLength].map((x) => hasDirection(tf.reshape(x, [x.size])) as tf.Tensor1D);
  const exists = tf.min(tf.concat([...flags, present])) as tf.Scalar;
  return {
    loss: tf.mul(weight, tf.sum(tf.sub(1, cosine))),
    du: tf.reshape(du, u.shape),
    pairCosine: tf.mean(tf.squeeze(cosine, [2]), 1),
    exists,
  };
}

/** L_con and its gradient with respect to u [K, C, D]. */
function composeConsistency(
  u: tf.Tensor,
  original: tf.Tensor,
  lambda: number,
): { loss: tf.Tensor; du: tf.Tensor } {
  const [k, contexts, depth] = u.shape as [number, number, number];
  const weight = 1 / (contexts * (k - 1));
  const o = tf.div(original, lengths(original));
  const similarity = tf.sum(tf.mul(u, o), 2);
  const members = tf.abs(pairMatrix(k));
  const hinge = tf.relu(tf.sub(lambda, tf.mul(0.5, tf.matMul(members, similarity as tf.Tensor2D))));
  const open = tf.mul(-0.5 * weight, tf.matMul(members, tf.step(hinge) as tf.Tensor2D, true, false));
  return {
    loss: tf.mul(weight, tf.sum(hinge)),
    du: tf.mul(tf.reshape(open, [k, contexts, 1]), tf.reshape(o, [1, 1, depth])),
  };
}

function compose({ text, original, imageMeans }: DirectionAlignmentInputs, attrs: DirectionAlignmentAttrs) {
  const { before, categories: k, after } = attrs;
  const depth = text.shape[1] as number;
  const contexts = before * after;
  const length = lengths(text);
  const unit = tf.div(text, length);
  const u = tf.reshape(tf.transpose(tf.reshape(unit, [before, k, after, depth]), [1, 0, 2, 3]), [
    k,
    contexts,
    depth,
  ]);
  const present = tf.tensor1d(attrs.present, 'float32');
  const mask = tf.reshape(present, [k, 1]);
  const means = tf.where(tf.greater(mask, 0), imageMeans, tf.zerosLike(imageMeans)) as tf.Tensor2D;

  const dir = composeDirection(u, means, present);
  const con = composeConsistency(u, original, attrs.consistency);
  const matching = tf.sum(tf.mul(u, tf.expandDims(means, 1)), 2);
  const cosLoss = tf.div(tf.sum(tf.mul(mask, tf.sub(1, matching))), contexts);
  const cosGrad = tf.mul(-1 / contexts, tf.add(tf.zerosLike(u), tf.expandDims(means, 1)));

  const exists = tf.greater(dir.exists, 0);
  const alignment = tf.where(exists, dir.loss, cosLoss);
  const du = tf.add(tf.where(exists, dir.du, cosGrad), con.du);
  const ordered = tf.transpose(tf.reshape(du, [k, before, after, depth]), [1, 0, 2, 3]);
  const flat = tf.reshape(ordered, [before * k * after, depth]);
  const along = tf.mul(unit, tf.sum(tf.mul(unit, flat), 1, true));
  const parts = tf.stack([alignment, con.loss, tf.sub(1, dir.exists)]);
  return [tf.add(alignment, con.loss), tf.div(tf.sub(flat, along), length), parts, dir.pairCosine];
}

const run = defineKernel<DirectionAlignmentInputs, DirectionAlignmentAttrs>({
  name: 'DirectionAlignmentLoss',
  portable: compose,
  gradient: {
    outputsToSave: [false, true, false, false],
    backward([dLoss], [dText]) {
      const constant = (input: string) => () => {
        throw new TypeError(`directionAlignmentLoss: ${input} is a constant of the loss: it has no gradient`);
      };
      return {
        text: () => tf.mul(dLoss as tf.Tensor, dText as tf.Tensor),
        original: constant('original'),
        imageMeans: constant('imageMeans'),
      };
    },
  },
});

function checkCategories(
  op: string,
  categories: unknown,
  attribute: unknown,
): asserts categories is number[] {
  if (!Array.isArray(categories))
    throw typeError(op, 'categories', 'an array of category counts', categories);
  if (categories.length === 0) throw rangeError(op, 'categories', 'at least one attribute', categories);
  for (const count of categories) checkInteger(op, 'categories', count, 1);
  checkInteger(op, 'attribute', attribute, 0);
  if (attribute >= categories.length) {
    throw rangeError(op, 'attribute', `an index below ${categories.length} attributes`, attribute);
  }
  checkInteger(op, `categories[${attribute}]`, categories[attribute], 2);
}

function presence(op: string, counts: unknown, k: number): number[] {
  if (counts === undefined) return new Array<number>(k).fill(1);
  if (!Array.isArray(counts)) throw typeError(op, 'imageCounts', `an array of ${k} counts`, counts);
  if (counts.length !== k) throw rangeError(op, 'imageCounts', `${k} counts`, counts);
  return counts.map((count) => {
    checkInteger(op, 'imageCounts', count, 0);
    return count > 0 ? 1 : 0;
  });
}

/**
 * Direction alignment plus semantic consistency for one attribute, all pairs and all contexts.
 *
 * @throws TypeError on a wrong kind of argument, RangeError on shapes or counts that do not fit
 */
export function directionAlignmentLoss(options: DirectionAlignmentOptions): DirectionAlignmentResult {
  const op = 'directionAlignmentLoss';
  if (typeof options !== 'object' || options === null) throw typeError(op, 'options', 'an object', options);
  checkKeys(op, options, [
    'text',
    'original',
    'imageMeans',
    'categories',
    'attribute',
    'consistency',
    'imageCounts',
  ]);
  const { text, original, imageMeans, categories, attribute, consistency } = options;
  checkCategories(op, categories, attribute);
  const product = (counts: readonly number[]): number => counts.reduce((a, b) => a * b, 1);
  const k = categories[attribute] as number;
  checkTensor(op, 'text', text, [product(categories), null]);
  const depth = text.shape[1] as number;
  if (depth === 0) throw rangeError(op, 'text', 'at least one feature', text);
  checkTensor(op, 'original', original, [depth]);
  checkTensor(op, 'imageMeans', imageMeans, [k, depth]);
  checkNumber(op, 'consistency', consistency);
  const attrs: DirectionAlignmentAttrs = {
    before: product(categories.slice(0, attribute)),
    categories: k,
    after: product(categories.slice(attribute + 1)),
    consistency,
    present: presence(op, options.imageCounts, k),
  };
  const inputs = { text, original, imageMeans };
  const [loss, gradient, ...logs] = run<[tf.Scalar, tf.Tensor2D, tf.Tensor1D, tf.Tensor1D]>(inputs, attrs);
  gradient.dispose();
  // Copies made off the tape: differentiating a log value fails loudly instead of giving zeros.
  const [parts, pairCosine] = detached(() => logs.map((log) => tf.clone(log))) as [tf.Tensor1D, tf.Tensor1D];
  tf.dispose(logs);
  return { loss, parts, pairCosine };
}
