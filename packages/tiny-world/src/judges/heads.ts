/** How labels are laid out in the logit vector of a judge that answers choices about a whole picture. */
import * as tf from '@tensorflow/tfjs-core';

/** One question: a choice among `size` classes. */
export interface Head {
  readonly name: string;
  readonly size: number;
}

/** Length of the logit vector. */
export function headsWidth(heads: readonly Head[]): number {
  return heads.reduce((sum, head) => sum + head.size, 0);
}

/** The right classes of a batch, one-hot [B, width]. */
export function oneHotTargets(heads: readonly Head[], answers: readonly (readonly number[])[]): tf.Tensor2D {
  const width = headsWidth(heads);
  const values = new Float32Array(answers.length * width);
  answers.forEach((row, b) => {
    let offset = b * width;
    heads.forEach(({ size }, index) => {
      values[offset + (row[index] as number)] = 1;
      offset += size;
    });
  });
  return tf.tensor2d(values, [answers.length, width]);
}

/** Mean over pictures of the summed cross-entropies of all heads. */
export function headsLoss(heads: readonly Head[], logits: tf.Tensor2D, targets: tf.Tensor2D): tf.Scalar {
  return tf.tidy(() => {
    const batch = logits.shape[0];
    let offset = 0;
    const terms = heads.map(({ size }) => {
      const [mine, wanted] = [logits, targets].map((x) => tf.slice(x, [0, offset], [batch, size])) as [
        tf.Tensor,
        tf.Tensor,
      ];
      offset += size;
      return tf.sum(tf.mul(wanted, tf.logSoftmax(mine, -1)));
    });
    return tf.div(tf.neg(tf.addN(terms)), batch) as tf.Scalar;
  });
}

/** A judge's answer to one question. */
export interface Verdict {
  readonly choice: number;
  readonly probability: number;
}

/** Reads one row of logits. */
export function readVerdicts(heads: readonly Head[], logits: Float32Array): Verdict[] {
  let offset = 0;
  return heads.map(({ size }) => {
    const values = Array.from(logits.subarray(offset, offset + size));
    offset += size;
    const largest = Math.max(...values);
    const total = values.reduce((sum, value) => sum + Math.exp(value - largest), 0);
    return { choice: values.indexOf(largest), probability: 1 / total };
  });
}
