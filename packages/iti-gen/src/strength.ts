/**
 * How far texts shift, measured by how far images do.
 *
 * The direction-alignment loss looks at angles alone: a text that hardly moves from one category to the next may align
 * perfectly, and images then hardly change. How far learned prompts end up apart is left to chance, most of all where
 * several attributes meet. This term, which is not in the paper, keeps them from fading:
 *
 *   mean over contexts, summed over pairs, / (K - 1), of  relu(strength - |u_i - u_j| / |m_i - m_j|)
 *
 * where u are unit text features and m the categories' mean image features over all references.
 */
import * as tf from '@tensorflow/tfjs-core';
import { type AttributeFeatures, categoryMeans } from './features.js';

/** Added to squared lengths, so that equal texts have a gradient of zero and not none. */
const TINY = 1e-12;

/** Distances of the mean image features of the pairs (0, 1), (0, 2), ..., over all references. */
export function imageShifts(features: AttributeFeatures, categories: number): Float32Array {
  const { means } = categoryMeans(features, [...features.labels.keys()], categories);
  const mean = (k: number): Float32Array => means.subarray(k * features.depth, (k + 1) * features.depth);
  return Float32Array.from(pairsOf(categories), ([i, j]) => {
    const other = mean(j);
    return Math.hypot(...mean(i).map((value, d) => value - (other[d] as number)));
  });
}

/**
 * The term above for one attribute. Differentiable in `text`.
 *
 * @param text features of all combinations [N, D], of any length, first attribute slowest
 * @param shifts of the images, see {@link imageShifts}; a pair whose images do not differ asks nothing of its texts
 * @param categories per attribute
 * @returns scalar
 */
export function shiftShortfall(
  text: tf.Tensor2D,
  shifts: Float32Array,
  categories: readonly number[],
  attribute: number,
  strength: number,
): tf.Scalar {
  const k = categories[attribute] as number;
  const after = categories.slice(attribute + 1).reduce((product, own) => product * own, 1);
  const pairs = pairsOf(k);
  return tf.tidy(() => {
    const unit = tf.div(text, tf.sqrt(tf.sum(tf.square(text), 1, true)));
    const byCategory = tf.reshape(unit, [-1, k, after, text.shape[1]]);
    const side = (s: 0 | 1): tf.Tensor =>
      tf.gather(
        byCategory,
        tf.tensor1d(
          pairs.map((pair) => pair[s]),
          'int32',
        ),
        1,
      );
    const squared = tf.sum(tf.square(tf.sub(side(0), side(1))), 3);
    const length = tf.sqrt(tf.add(squared, TINY));
    const perPair = (values: Float32Array): tf.Tensor => tf.reshape(tf.tensor1d(values), [1, -1, 1]);
    const lacking = tf.relu(tf.sub(tf.mul(perPair(shifts), strength), length));
    const missing = tf.mul(lacking, perPair(shifts.map((shift) => (shift > 0 ? 1 / shift : 0))));
    return tf.div(tf.sum(tf.mean(missing, [0, 2])), k - 1) as tf.Scalar;
  });
}

function pairsOf(categories: number): [number, number][] {
  return Array.from({ length: categories }, (_, i) =>
    Array.from({ length: categories - i - 1 }, (_, j): [number, number] => [i, i + 1 + j]),
  ).flat();
}
