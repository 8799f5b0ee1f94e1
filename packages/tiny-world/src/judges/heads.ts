/**
 * How labels are laid out in a judge's logit vector. A head is one softmax over named classes or a pair of
 * coordinates; the same table makes targets, losses and verdicts.
 */
import * as tf from '@tensorflow/tfjs-core';

/** One question a judge answers: a choice among `size` classes, or `size` coordinates in [0, 1]. */
export interface Head {
  readonly name: string;
  readonly kind: 'choice' | 'position';
  readonly size: number;
}

/** The right answer to each head, in order; null where the question does not apply (no such object). */
export type Answers = readonly (number | readonly number[] | null)[];

/** Length of the logit vector. */
export function headsWidth(heads: readonly Head[]): number {
  return heads.reduce((sum, head) => sum + head.size, 0);
}

/** Answers of a batch as tensors: what the logits should be compared with, and which of them count. */
export interface Targets extends tf.NamedTensorMap {
  /** One-hot classes and coordinates [B, width]. */
  values: tf.Tensor;
  /** 1 where a head applies, else 0 [B, heads]. */
  applies: tf.Tensor;
}

/** Lays answers out as tensors. */
export function targetTensors(heads: readonly Head[], answers: readonly Answers[]): Targets {
  const width = headsWidth(heads);
  const values = new Float32Array(answers.length * width);
  const applies = new Float32Array(answers.length * heads.length);
  answers.forEach((row, b) => {
    let offset = b * width;
    heads.forEach((head, h) => {
      const answer = row[h] ?? null;
      if (answer !== null) {
        applies[b * heads.length + h] = 1;
        if (typeof answer === 'number') values[offset + answer] = 1;
        else values.set(answer, offset);
      }
      offset += head.size;
    });
  });
  return {
    values: tf.tensor2d(values, [answers.length, width]),
    applies: tf.tensor2d(applies, [answers.length, heads.length]),
  };
}

/** Weight of the squared error of coordinates beside the cross-entropies. */
const POSITION_WEIGHT = 10;

/**
 * Mean over pictures of the summed losses of the heads that apply: cross-entropy for choices, squared error for
 * positions. Heads of one kind and size that follow each other are computed together.
 */
export function headsLoss(heads: readonly Head[], logits: tf.Tensor2D, targets: Targets): tf.Scalar {
  return tf.tidy(() => {
    const batch = logits.shape[0];
    const terms: tf.Tensor[] = [];
    for (const group of groupHeads(heads)) {
      const shape: [number, number, number] = [batch, group.count, group.size];
      const part = (x: tf.Tensor): tf.Tensor3D =>
        tf.reshape(tf.slice(x as tf.Tensor2D, [0, group.offset], [batch, group.count * group.size]), shape);
      const [mine, wanted] = [part(logits), part(targets.values)];
      const applies = tf.slice(targets.applies as tf.Tensor2D, [0, group.first], [batch, group.count]);
      const losses =
        group.kind === 'choice'
          ? tf.neg(tf.sum(tf.mul(wanted, tf.logSoftmax(mine, -1)), -1))
          : tf.mul(tf.sum(tf.square(tf.sub(mine, wanted)), -1), POSITION_WEIGHT);
      terms.push(tf.div(tf.sum(tf.mul(losses, applies)), batch));
    }
    return tf.addN(terms) as tf.Scalar;
  });
}

interface HeadGroup {
  readonly kind: Head['kind'];
  readonly size: number;
  /** Index of the first head, and how many there are. */
  readonly first: number;
  count: number;
  /** Where its logits begin. */
  readonly offset: number;
}

function groupHeads(heads: readonly Head[]): HeadGroup[] {
  const groups: HeadGroup[] = [];
  let offset = 0;
  heads.forEach(({ kind, size }, index) => {
    const last = groups.at(-1);
    if (last && last.kind === kind && last.size === size) last.count++;
    else groups.push({ kind, size, first: index, count: 1, offset });
    offset += size;
  });
  return groups;
}

/** A judge's answers to one picture: class and probability, or coordinates. */
export interface Verdict {
  /** Class index of a choice; -1 for positions. */
  readonly choice: number;
  readonly probability: number;
  readonly values: readonly number[];
}

/** Reads one row of logits. */
export function readVerdicts(heads: readonly Head[], logits: Float32Array): Verdict[] {
  let offset = 0;
  return heads.map(({ kind, size }) => {
    const values = Array.from(logits.subarray(offset, offset + size));
    offset += size;
    if (kind === 'position') return { choice: -1, probability: 1, values };
    const largest = Math.max(...values);
    const total = values.reduce((sum, value) => sum + Math.exp(value - largest), 0);
    return { choice: values.indexOf(largest), probability: 1 / total, values };
  });
}
