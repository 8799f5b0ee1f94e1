/**
 * Straightforward float64 definitions of the fused ops: the oracle of kernels and compositions. Nothing here is fast,
 * shares code with what it checks, or knows gradients: those come from central differences (`numericGradient`).
 */
import { sizeOf } from './shapes.js';

/** A dense row-major array of float64. */
export interface Array64 {
  readonly shape: readonly number[];
  readonly data: Float64Array;
}

/** An array of zeros. */
export function zeros64(shape: readonly number[]): Array64 {
  return { shape, data: new Float64Array(sizeOf(shape)) };
}

const last = (shape: readonly number[]): number => shape[shape.length - 1] as number;
const rowCount = (shape: readonly number[]): number => sizeOf(shape.slice(0, -1));
const get = (a: Array64, i: number): number => a.data[i] as number;

/** Gauss error function to float64 accuracy: its Taylor series, or the continued fraction of erfc beyond 3. */
export function erf64(x: number): number {
  const a = Math.abs(x);
  if (a < 3) {
    let term = x;
    let sum = x;
    for (let n = 1; Math.abs(term) > 1e-18 * Math.abs(sum); n++) {
      term *= (-x * x) / n;
      sum += term / (2 * n + 1);
    }
    return (2 / Math.sqrt(Math.PI)) * sum;
  }
  let fraction = a;
  for (let n = 60; n >= 1; n--) fraction = a + n / 2 / fraction;
  return Math.sign(x) * (1 - Math.exp(-a * a) / fraction / Math.sqrt(Math.PI));
}

/** The scalar activations by the names that linear and conv2d use. */
export const ACTIVATIONS64 = {
  none: (x: number): number => x,
  relu: (x: number): number => Math.max(0, x),
  silu: (x: number): number => x / (1 + Math.exp(-x)),
  gelu: (x: number): number => 0.5 * x * (1 + erf64(x * Math.SQRT1_2)),
  quick_gelu: (x: number): number => x / (1 + Math.exp(-1.702 * x)),
};

/** Applies a function to every element. */
export function map64(x: Array64, f: (value: number) => number): Array64 {
  return { shape: x.shape, data: x.data.map(f) };
}

/** First half of the channels times gelu of the second. */
export function geglu64(x: Array64): Array64 {
  const channels = last(x.shape) / 2;
  const out = zeros64([...x.shape.slice(0, -1), channels]);
  for (let i = 0; i < out.data.length; i++) {
    const at = Math.floor(i / channels) * 2 * channels + (i % channels);
    out.data[i] = get(x, at) * ACTIVATIONS64.gelu(get(x, at + channels));
  }
  return out;
}

/** Multi-head attention; causal queries are aligned with the last keys. */
export function attention64(
  q: Array64,
  k: Array64,
  v: Array64,
  options: { heads: number; causal?: boolean; scale?: number },
): Array64 {
  const [batch, lq, channels] = q.shape as [number, number, number];
  const lk = k.shape[1] as number;
  const depth = channels / options.heads;
  const scale = options.scale ?? 1 / Math.sqrt(depth);
  const out = zeros64(q.shape);
  for (let b = 0; b < batch; b++) {
    for (let h = 0; h < options.heads; h++) {
      for (let i = 0; i < lq; i++) {
        const visible = options.causal ? i + lk - lq + 1 : lk;
        const qAt = (b * lq + i) * channels + h * depth;
        const scores = Array.from({ length: visible }, (_, j) => {
          let sum = 0;
          for (let d = 0; d < depth; d++)
            sum += get(q, qAt + d) * get(k, (b * lk + j) * channels + h * depth + d);
          return sum * scale;
        });
        const top = Math.max(...scores);
        const weights = scores.map((score) => Math.exp(score - top));
        const total = weights.reduce((a, w) => a + w, 0);
        weights.forEach((weight, j) => {
          for (let d = 0; d < depth; d++) {
            out.data[qAt + d] =
              get(out, qAt + d) + (weight / total) * get(v, (b * lk + j) * channels + h * depth + d);
          }
        });
      }
    }
  }
  return out;
}

/** Normalises the elements that `members` lists, then scales and shifts by channel. */
function normalise(
  x: Array64,
  gamma: Array64,
  beta: Array64,
  epsilon: number,
  members: Iterable<number[]>,
): Array64 {
  const out = zeros64(x.shape);
  const channels = last(x.shape);
  for (const indices of members) {
    const mean = indices.reduce((sum, i) => sum + get(x, i), 0) / indices.length;
    const variance = indices.reduce((sum, i) => sum + (get(x, i) - mean) ** 2, 0) / indices.length;
    for (const i of indices) {
      out.data[i] =
        ((get(x, i) - mean) / Math.sqrt(variance + epsilon)) * get(gamma, i % channels) +
        get(beta, i % channels);
    }
  }
  return out;
}

/** Group normalisation, channels last, with an optional activation. */
export function groupNorm64(
  x: Array64,
  gamma: Array64,
  beta: Array64,
  options: { groups: number; epsilon: number; activation?: keyof typeof ACTIVATIONS64 },
): Array64 {
  const channels = last(x.shape);
  const perGroup = channels / options.groups;
  const perSample = x.data.length / Math.max(1, x.shape[0] as number);
  const members = new Map<string, number[]>();
  for (let i = 0; i < x.data.length; i++) {
    const key = `${Math.floor(i / perSample)}/${Math.floor((i % channels) / perGroup)}`;
    const list = members.get(key);
    if (list === undefined) members.set(key, [i]);
    else list.push(i);
  }
  const y = normalise(x, gamma, beta, options.epsilon, members.values());
  return map64(y, ACTIVATIONS64[options.activation ?? 'none']);
}

/** Layer normalisation over the last axis. */
export function layerNorm64(
  x: Array64,
  gamma: Array64,
  beta: Array64,
  options: { epsilon: number },
): Array64 {
  const channels = last(x.shape);
  const members = Array.from({ length: rowCount(x.shape) }, (_, row) =>
    Array.from({ length: channels }, (_, c) => row * channels + c),
  );
  return normalise(x, gamma, beta, options.epsilon, members);
}

/** activation(x weight^T + bias). */
export function linear64(
  x: Array64,
  weight: Array64,
  bias: Array64 | null,
  activation: keyof typeof ACTIVATIONS64 = 'none',
): Array64 {
  const [n, k] = weight.shape as [number, number];
  const out = zeros64([...x.shape.slice(0, -1), n]);
  for (let i = 0; i < out.data.length; i++) {
    const row = Math.floor(i / n) * k;
    let sum = bias === null ? 0 : get(bias, i % n);
    for (let j = 0; j < k; j++) sum += get(x, row + j) * get(weight, (i % n) * k + j);
    out.data[i] = ACTIVATIONS64[activation](sum);
  }
  return out;
}

/** Convolution NHWC x HWIO; `pad` is [top, left] and `size` the output's height and width. */
export function conv2d64(
  x: Array64,
  filter: Array64,
  bias: Array64 | null,
  options: {
    stride: number;
    dilation: number;
    pad: readonly [number, number];
    size: readonly [number, number];
    activation?: keyof typeof ACTIVATIONS64;
  },
): Array64 {
  const [batch, height, width, channels] = x.shape as [number, number, number, number];
  const [rows, columns, , outputs] = filter.shape as [number, number, number, number];
  const { stride, dilation, pad, size } = options;
  const out = zeros64([batch, size[0], size[1], outputs]);
  for (let i = 0; i < out.data.length; i++) {
    const o = i % outputs;
    const q = Math.floor(i / outputs) % size[1];
    const p = Math.floor(i / (outputs * size[1])) % size[0];
    const b = Math.floor(i / (outputs * size[1] * size[0]));
    let sum = bias === null ? 0 : get(bias, o);
    for (let r = 0; r < rows; r++) {
      for (let s = 0; s < columns; s++) {
        const h = p * stride + r * dilation - pad[0];
        const w = q * stride + s * dilation - pad[1];
        if (h < 0 || w < 0 || h >= height || w >= width) continue;
        for (let c = 0; c < channels; c++) {
          sum +=
            get(x, ((b * height + h) * width + w) * channels + c) *
            get(filter, ((r * columns + s) * channels + c) * outputs + o);
        }
      }
    }
    out.data[i] = ACTIVATIONS64[options.activation ?? 'none'](sum);
  }
  return out;
}

/** Row norms of weight + scaling * B A. */
export function doraNorm64(weight: Array64, loraA: Array64, loraB: Array64, scaling: number): Array64 {
  const [n, k] = weight.shape as [number, number];
  const rank = loraA.shape[0] as number;
  const out = zeros64([n]);
  for (let i = 0; i < n; i++) {
    let squares = 0;
    for (let j = 0; j < k; j++) {
      let v = get(weight, i * k + j);
      for (let r = 0; r < rank; r++) v += scaling * get(loraB, i * rank + r) * get(loraA, r * k + j);
      squares += v * v;
    }
    out.data[i] = Math.sqrt(squares);
  }
  return out;
}

/** magnitude / norm * (x W^T + scaling (x A^T) B^T) + bias; plain LoRA without magnitude. The norm is given. */
export function doraLinear64(
  x: Array64,
  parts: {
    weight: Array64;
    bias: Array64 | null;
    loraA: Array64;
    loraB: Array64;
    magnitude: Array64 | null;
    scaling: number;
    norm: Array64 | null;
  },
): Array64 {
  const base = linear64(x, parts.weight, null);
  const update = linear64(linear64(x, parts.loraA, null), parts.loraB, null);
  const n = parts.weight.shape[0] as number;
  base.data.forEach((value, i) => {
    const j = i % n;
    const c =
      parts.magnitude === null || parts.norm === null ? 1 : get(parts.magnitude, j) / get(parts.norm, j);
    base.data[i] =
      c * (value + parts.scaling * get(update, i)) + (parts.bias === null ? 0 : get(parts.bias, j));
  });
  return base;
}

/** weights[b] * sum (cond - uncond)^2 over each sample. */
export function miSquaredNorm64(cond: Array64, uncond: Array64, weights: Array64): Array64 {
  const out = zeros64(weights.shape);
  const per = cond.data.length / Math.max(1, weights.data.length);
  for (let i = 0; i < cond.data.length; i++) {
    const b = Math.floor(i / per);
    out.data[b] = get(out, b) + get(weights, b) * (get(cond, i) - get(uncond, i)) ** 2;
  }
  return out;
}

/** What {@link directionLoss64} returns. */
export interface DirectionLoss64 {
  loss: number;
  alignment: number;
  consistency: number;
  fallback: boolean;
  pairCosine: number[];
}

/** ITI-GEN's loss for one attribute, by loops over pairs and contexts. */
export function directionLoss64(options: {
  text: Array64;
  original: Array64;
  imageMeans: Array64;
  categories: readonly number[];
  attribute: number;
  consistency: number;
  imageCounts?: readonly number[];
}): DirectionLoss64 {
  const { text, categories, attribute, consistency } = options;
  const depth = text.shape[1] as number;
  const row = (a: Array64, i: number): number[] => [...a.data.slice(i * depth, (i + 1) * depth)];
  const dot = (a: number[], b: number[]): number =>
    a.reduce((sum, value, i) => sum + value * (b[i] as number), 0);
  const unit = (a: number[]): number[] => {
    const length = Math.sqrt(dot(a, a));
    return a.map((value) => value / length);
  };
  const minus = (a: number[], b: number[]): number[] => a.map((value, i) => value - (b[i] as number));

  const k = categories[attribute] as number;
  const after = sizeOf(categories.slice(attribute + 1));
  const n = text.shape[0] as number;
  const category = (i: number): number => Math.floor(i / after) % k;
  const contexts = Array.from({ length: n }, (_, i) => i).filter((i) => category(i) === 0);
  const u = Array.from({ length: n }, (_, i) => unit(row(text, i)));
  const o = unit(row(options.original, 0));
  const present = (c: number): boolean => (options.imageCounts?.[c] ?? 1) > 0;

  let fallback = false;
  let alignment = 0;
  let open = 0;
  const pairCosine: number[] = [];
  for (let i = 0; i < k; i++) {
    for (let j = i + 1; j < k; j++) {
      const image = minus(
        present(i) ? row(options.imageMeans, i) : row(options.imageMeans, i).fill(0),
        present(j) ? row(options.imageMeans, j) : row(options.imageMeans, j).fill(0),
      );
      let mean = 0;
      for (const base of contexts) {
        const [ui, uj] = [u[base + i * after] as number[], u[base + j * after] as number[]];
        const d = minus(ui, uj);
        const missing = Math.sqrt(dot(d, d)) <= 1e-6 || Math.sqrt(dot(image, image)) <= 1e-6;
        fallback ||= missing || !present(i) || !present(j);
        const cosine = missing ? 0 : dot(unit(image), unit(d));
        mean += cosine / contexts.length;
        alignment += (1 - cosine) / contexts.length / (k - 1);
        open += Math.max(0, consistency - (dot(o, ui) + dot(o, uj)) / 2) / contexts.length / (k - 1);
      }
      pairCosine.push(mean);
    }
  }
  if (fallback) {
    alignment = 0;
    u.forEach((feature, i) => {
      if (present(category(i)))
        alignment += (1 - dot(feature, row(options.imageMeans, category(i)))) / contexts.length;
    });
  }
  return { loss: alignment + open, alignment, consistency: open, fallback, pairCosine };
}

/**
 * Central differences of a float64 function of several arrays, with respect to one of them. With steps of 1e-5 and
 * values of order 1 they are good to about 1e-9.
 *
 * @param f the function, to a number
 * @param inputs its arguments; input `which` is varied and restored
 */
export function numericGradient(
  f: (...inputs: Array64[]) => number,
  inputs: Array64[],
  which: number,
): Float64Array {
  const x = inputs[which] as Array64;
  return Float64Array.from(x.data, (value, i) => {
    const h = 1e-5 * Math.max(1, Math.abs(value));
    x.data[i] = value + h;
    const high = f(...inputs);
    x.data[i] = value - h;
    const low = f(...inputs);
    x.data[i] = value;
    return (high - low) / (2 * h);
  });
}
