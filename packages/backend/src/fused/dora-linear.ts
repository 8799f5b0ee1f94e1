/**
 * A frozen linear layer with a trained low-rank update, plain (LoRA: Hu et al. 2021) or weight-decomposed
 * (DoRA: Liu et al. 2024), as PEFT computes it.
 *
 *   x [..., K] seen as M rows;  W [N,K] frozen;  A [r,K];  B [N,r];  m [N];  b [N];  s = alpha / r
 *   V = W + s B A;   n_j = |V_j|  (over the inputs; detached: no gradient through the norm)
 *   c = m / n, or 1 for plain LoRA;   u = x A^T [M,r];   y = c (x W^T + s u B^T) + b
 *
 * Backward, with g = dy c:
 *   h = s g B [M,r];   dx = g W + h A;   dA = h^T x;   dB = s g^T u;   dm_j = sum_rows dy_j (V x)_j / n_j
 * where (V x) = (y - b) / c needs no second product wherever m is not 0.
 *
 * The norm is `doraNorm`. Natively it comes from |V_j|^2 = |w_j|^2 + 2 s b_j . (A w_j) + s^2 b_j (A A^T) b_j, without
 * V. It changes with A and B only: compute it once per optimizer step and pass it as `norm`.
 *
 * FLOPs: forward 2 M N K + 2 M r (N + K), backward the same for dx plus 2 M r (N + K) for dA and dB.
 * Bytes: x, W, y once each, and u (r / K of x).
 */
import * as tf from '@tensorflow/tfjs-core';
import { checkKeys, checkNumber, checkTensor, rangeError, typeError } from './checks.js';
import { defineKernel, detached, onlyFirst, shared } from './define.js';
import { asRows, linearGradWeight } from './linear.js';

/** Arguments of {@link doraLinear} besides x. */
export interface DoraLinearOptions {
  /** Frozen weight [N, K]. */
  weight: tf.Tensor;
  /** Bias [N], added unscaled; null for none. */
  bias: tf.Tensor | null;
  /** Down projection A [r, K]. */
  loraA: tf.Tensor;
  /** Up projection B [N, r]. */
  loraB: tf.Tensor;
  /** DoRA's magnitude [N]; null for plain LoRA. */
  magnitude: tf.Tensor | null;
  /** Factor s on B A. */
  scaling: number;
  /** Row norms of W + s B A [N] from {@link doraNorm}, to share among calls; computed here where absent. */
  norm?: tf.Tensor;
}

/** The low-rank factors and the frozen weight: inputs of the kernel `DoraNorm`. */
export interface DoraNormInputs {
  weight: tf.Tensor;
  loraA: tf.Tensor;
  loraB: tf.Tensor;
}

/** Which optional inputs the kernels of this family receive, and the scaling. */
export interface DoraAttrs {
  scaling: number;
  /** Whether magnitude and norm are there: DoRA rather than LoRA. */
  dora: boolean;
  /** Whether the bias is there. */
  bias: boolean;
}

/** The scale c = magnitude / norm [N], where there is one: DoRA, not plain LoRA. */
export interface DoraScaleInput {
  scale?: tf.Tensor;
}

/**
 * Inputs of `DoraLinear`, in order: x, weight, loraA, loraB, then magnitude and norm if dora, then bias if bias. It
 * returns [y, u [M,r]], and the scale c [N] if dora.
 */
export type DoraLinearInputs = tf.Tensor[];

interface Unpacked extends DoraNormInputs {
  x: tf.Tensor;
  magnitude?: tf.Tensor;
  norm?: tf.Tensor;
  bias?: tf.Tensor;
}

function unpack(inputs: readonly tf.Tensor[], attrs: DoraAttrs): Unpacked {
  const [x, weight, loraA, loraB, ...rest] = inputs as [
    tf.Tensor,
    tf.Tensor,
    tf.Tensor,
    tf.Tensor,
    ...tf.Tensor[],
  ];
  const [magnitude, norm] = attrs.dora ? (rest.splice(0, 2) as [tf.Tensor, tf.Tensor]) : [];
  const [bias] = rest;
  return {
    x,
    weight,
    loraA,
    loraB,
    ...(magnitude && { magnitude }),
    ...(norm && { norm }),
    ...(bias && { bias }),
  };
}

/** value c, column by column; value itself for plain LoRA. */
function scaled<T extends tf.Tensor>(value: T, scale: tf.Tensor | undefined): T {
  return scale === undefined ? value : tf.mul(value, scale);
}

/** x W^T + s u B^T, [M, N]. */
function adaptedProduct(
  x: tf.Tensor,
  u: tf.Tensor,
  { weight, loraB }: Omit<DoraNormInputs, 'loraA'>,
  s: number,
) {
  const low = tf.mul(s, tf.matMul(u as tf.Tensor2D, loraB as tf.Tensor2D, false, true));
  return tf.add(tf.matMul(asRows(x), weight as tf.Tensor2D, false, true), low);
}

const runNorm = defineKernel<DoraNormInputs, { scaling: number }>({
  name: 'DoraNorm',
  portable({ weight, loraA, loraB }, { scaling }) {
    const update = tf.mul(scaling, tf.matMul(loraB as tf.Tensor2D, loraA as tf.Tensor2D));
    return tf.sqrt(tf.sum(tf.square(tf.add(weight, update)), 1));
  },
});

/** Inputs of `DoraLinearGradHidden`; it returns h = s (dy c) B [M, r], the gradient with respect to u. */
export interface DoraHiddenInputs extends DoraScaleInput {
  dy: tf.Tensor;
  loraB: tf.Tensor;
}

const runGradHidden = defineKernel<DoraHiddenInputs, { scaling: number }>({
  name: 'DoraLinearGradHidden',
  portable: ({ dy, loraB, scale }, { scaling }) =>
    tf.mul(scaling, tf.matMul(scaled(asRows(dy), scale), loraB as tf.Tensor2D)),
});

/** Inputs of `DoraLinearGradInput`; it returns dx = (dy c) W + h A [M, K]. */
export interface DoraGradInputInputs extends DoraScaleInput {
  dy: tf.Tensor;
  h: tf.Tensor;
  weight: tf.Tensor;
  loraA: tf.Tensor;
}

const runGradInput = defineKernel<DoraGradInputInputs, object>({
  name: 'DoraLinearGradInput',
  portable({ dy, h, weight, loraA, scale }) {
    const base = tf.matMul(scaled(asRows(dy), scale), weight as tf.Tensor2D);
    return tf.add(base, tf.matMul(h as tf.Tensor2D, loraA as tf.Tensor2D));
  },
});

/** Inputs of `DoraLinearGradLora`; it returns [dA = h^T x, dB = s (dy c)^T u]. */
export interface DoraGradLoraInputs extends DoraScaleInput {
  x: tf.Tensor;
  dy: tf.Tensor;
  u: tf.Tensor;
  h: tf.Tensor;
}

const runGradLora = defineKernel<DoraGradLoraInputs, { scaling: number }>({
  name: 'DoraLinearGradLora',
  portable: ({ x, dy, u, h, scale }, { scaling }) => [
    tf.matMul(h as tf.Tensor2D, asRows(x), true, false),
    tf.mul(scaling, tf.matMul(scaled(asRows(dy), scale), u as tf.Tensor2D, true, false)),
  ],
});

/**
 * Inputs of `DoraLinearGradMagnitude`; it returns dm_j = sum over rows of dy_j (V x)_j / n_j [N]. The forward result
 * y lets a native kernel do without the products.
 */
export interface DoraGradMagnitudeInputs {
  x: tf.Tensor;
  dy: tf.Tensor;
  y: tf.Tensor;
  u: tf.Tensor;
  weight: tf.Tensor;
  loraB: tf.Tensor;
  scale: tf.Tensor;
  norm: tf.Tensor;
  bias?: tf.Tensor;
}

const runGradMagnitude = defineKernel<DoraGradMagnitudeInputs, { scaling: number }>({
  name: 'DoraLinearGradMagnitude',
  portable: ({ x, dy, u, norm, weight, loraB }, { scaling }) =>
    tf.div(tf.sum(tf.mul(asRows(dy), adaptedProduct(x, u, { weight, loraB }, scaling)), 0), norm),
});

function backward([upstream]: tf.Tensor[], saved: tf.Tensor[], attrs: DoraAttrs): Array<() => tf.Tensor> {
  const outputs = attrs.dora ? 3 : 2;
  const [y, u, c] = saved.slice(-outputs) as [tf.Tensor, tf.Tensor, tf.Tensor?];
  const { x, weight, loraA, loraB, magnitude, norm, bias } = unpack(saved.slice(0, -outputs), attrs);
  const dy = upstream as tf.Tensor;
  const scale = c && { scale: c };
  const { scaling } = attrs;
  const hidden = shared((): [tf.Tensor] => [runGradHidden({ dy, loraB, ...scale }, { scaling })]);
  const lora = shared(() =>
    runGradLora<[tf.Tensor, tf.Tensor]>({ x, dy, u, h: hidden(0), ...scale }, { scaling }),
  );
  const thunks = [
    () => tf.reshape(runGradInput({ dy, h: hidden(0), weight, loraA, ...scale }, {}), x.shape),
    () => linearGradWeight(scaled(asRows(dy), c), asRows(x)),
    () => lora(0),
    () => lora(1),
  ];
  if (magnitude !== undefined && norm !== undefined && scale !== undefined) {
    const inputs = { x, dy, y, u, weight, loraB, ...scale, norm, ...(bias && { bias }) };
    thunks.push(
      () => runGradMagnitude(inputs, { scaling }),
      () => tf.zeros(norm.shape),
    );
  }
  if (bias !== undefined) thunks.push(() => tf.sum(asRows(dy), 0));
  return thunks;
}

const run = defineKernel<DoraLinearInputs, DoraAttrs>({
  name: 'DoraLinear',
  portable(inputs, attrs) {
    const { x, weight, loraA, loraB, magnitude, norm, bias } = unpack(inputs, attrs);
    const scale = magnitude && norm && tf.div(magnitude, norm);
    const u = tf.matMul(asRows(x), loraA as tf.Tensor2D, false, true);
    const product = scaled(adaptedProduct(x, u, { weight, loraB }, attrs.scaling), scale);
    const rows = bias === undefined ? product : tf.add(product, bias);
    const y = tf.reshape(rows, [...x.shape.slice(0, -1), weight.shape[0] as number]);
    return scale === undefined ? [y, u] : [y, u, scale];
  },
  gradient: { saveAllInputs: true, outputsToSave: [true, true, true], backward },
});

function checkFactors(
  op: string,
  { weight, loraA, loraB }: DoraNormInputs,
  scaling: number,
): [number, number] {
  checkTensor(op, 'weight', weight, [null, null]);
  const [n, k] = weight.shape as [number, number];
  if (n === 0 || k === 0) throw rangeError(op, 'weight', 'no empty axis', weight);
  checkTensor(op, 'loraA', loraA, [null, k]);
  const rank = loraA.shape[0] as number;
  if (rank === 0) throw rangeError(op, 'loraA', 'rank at least 1', loraA);
  checkTensor(op, 'loraB', loraB, [n, rank]);
  checkNumber(op, 'scaling', scaling);
  return [n, k];
}

/**
 * Row norms of W + scaling * B A, one per output: DoRA's denominator and initial magnitude. No gradient flows
 * through it.
 *
 * @param weight [N, K]
 * @param loraA [r, K]
 * @param loraB [N, r]
 * @returns [N]
 * @throws TypeError on a wrong kind of argument, RangeError on shapes that do not fit
 */
export function doraNorm(
  weight: tf.Tensor,
  loraA: tf.Tensor,
  loraB: tf.Tensor,
  scaling: number,
): tf.Tensor1D {
  checkFactors('doraNorm', { weight, loraA, loraB }, scaling);
  return detached(() => runNorm<tf.Tensor1D>({ weight, loraA, loraB }, { scaling }));
}

/**
 * Linear layer with a DoRA or LoRA adapter: c * (x W^T + s (x A^T) B^T) + b, with c = magnitude / |W + s B A|.
 *
 * @param x [..., K], rank at least 1
 * @returns [..., N]
 * @throws TypeError on a wrong kind of argument, RangeError on shapes that do not fit
 */
export function doraLinear<T extends tf.Tensor>(x: T, options: DoraLinearOptions): T {
  const op = 'doraLinear';
  if (typeof options !== 'object' || options === null) throw typeError(op, 'options', 'an object', options);
  checkKeys(op, options, ['weight', 'bias', 'loraA', 'loraB', 'magnitude', 'scaling', 'norm']);
  const { weight, bias, loraA, loraB, magnitude, scaling } = options;
  const [n, k] = checkFactors(op, options, scaling);
  checkTensor(op, 'x', x, ['...', k]);
  if (bias !== null) checkTensor(op, 'bias', bias, [n]);
  const inputs: tf.Tensor[] = [x, weight, loraA, loraB];
  const attrs = { scaling, dora: magnitude !== null, bias: bias !== null };
  if (magnitude === null) {
    if (options.norm !== undefined)
      throw typeError(op, 'norm', 'nothing, because magnitude is null', options.norm);
    return onlyFirst(run<[T, tf.Tensor]>([...inputs, ...(bias === null ? [] : [bias])], attrs));
  }
  checkTensor(op, 'magnitude', magnitude, [n]);
  if (options.norm !== undefined) checkTensor(op, 'norm', options.norm, [n]);
  const norm = options.norm ?? doraNorm(weight, loraA, loraB, scaling);
  const y = onlyFirst(
    run<[T, tf.Tensor, tf.Tensor]>([...inputs, magnitude, norm, ...(bias === null ? [] : [bias])], attrs),
  );
  if (options.norm === undefined) norm.dispose();
  return y;
}
