/** Shape arithmetic of kernels: how a TensorFlow.js op on axes becomes a native op on a few sizes. */

export const product = (sizes: readonly number[]): number => sizes.reduce((a, b) => a * b, 1);

/** Steps in elements of a dense tensor. */
export function stridesOf(shape: readonly number[]): number[] {
  const strides = new Array<number>(shape.length);
  let step = 1;
  for (let d = shape.length - 1; d >= 0; d--) {
    strides[d] = step;
    step *= shape[d] as number;
  }
  return strides;
}

/** Sizes before, at and after an axis. */
export interface AxisSplit {
  outer: number;
  length: number;
  inner: number;
}

export function splitAt(shape: readonly number[], axis: number): AxisSplit {
  return {
    outer: product(shape.slice(0, axis)),
    length: shape[axis] as number,
    inner: product(shape.slice(axis + 1)),
  };
}

/**
 * The reduced axes as the middle of [outer, length, inner], or undefined if they are not neighbours
 * (axes of size 1 do not count).
 */
export function reductionSplit(shape: readonly number[], axes: readonly number[]): AxisSplit | undefined {
  const reduced = new Set(axes.filter((axis) => shape[axis] !== 1));
  const first = Math.min(...reduced);
  const last = Math.max(...reduced);
  if (reduced.size === 0) return { outer: product(shape), length: 1, inner: 1 };
  for (let d = first; d <= last; d++) if (!reduced.has(d) && shape[d] !== 1) return undefined;
  return {
    outer: product(shape.slice(0, first)),
    length: product(shape.slice(first, last + 1)),
    inner: product(shape.slice(last + 1)),
  };
}

/** Whether a permutation leaves the elements in place (axes of size 1 may move). */
export function keepsOrder(shape: readonly number[], perm: readonly number[]): boolean {
  const moved = perm.filter((axis) => shape[axis] !== 1);
  return moved.every((axis, i) => i === 0 || axis > (moved[i - 1] as number));
}

export const sameShape = (a: readonly number[], b: readonly number[]): boolean =>
  a.length === b.length && a.every((size, d) => size === b[d]);
