import type { Handle, Storage } from '../binding.js';

/** Native kernels in native/kernels/index. An index out of range is a fault, reported by the next read. */
export interface IndexOps {
  /** x [batch, outer, dim, inner], indices [batch, n] -> [batch, outer, n, inner] */
  gather(x: Handle, indices: Handle, batch: number, outer: number, dim: number, inner: number): Handle;
  /** x [dims..., slice], indices [count, dims.length] -> [count, slice] */
  gatherNd(x: Handle, indices: Handle, dims: readonly number[], slice: number, count: number): Handle;
  /** -> [dims..., slice]: adds updates to zeros, or assigns them over a copy of `base`. */
  scatterNd(
    base: Handle | null,
    indices: Handle,
    updates: Handle,
    dims: readonly number[],
    slice: number,
    count: number,
  ): Handle;
  /** x [ids, inner] -> [segments, inner] */
  segmentSum(x: Handle, ids: Handle, inner: number, segments: number): Handle;
  oneHot(indices: Handle, storage: Storage, depth: number, on: number, off: number): Handle;
  /** x [rows, n] -> [rows, bins]; f32 with weights, else i32 */
  bincount(x: Handle, weights: Handle | null, rows: number, bins: number, binary: boolean): Handle;
  /** probabilities [rows, n], uniforms [rows, samples] in [0, 1) -> [rows, samples] */
  multinomial(probabilities: Handle, uniforms: Handle, rows: number): Handle;
}
