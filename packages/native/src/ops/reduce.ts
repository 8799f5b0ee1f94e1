import type { Handle } from '../binding.js';

/** x seen as [outer, reduced, inner]; the result has shape [outer, inner]. */
export type Reduction = (x: Handle, outer: number, reduced: number, inner: number) => Handle;
export type ReductionOp = 'sum' | 'mean' | 'prod' | 'max' | 'min' | 'all' | 'any' | 'argMax' | 'argMin';
/** x seen as [outer, length, inner]; the result has that shape. */
type Scan = (
  x: Handle,
  outer: number,
  length: number,
  inner: number,
  exclusive: boolean,
  reverse: boolean,
) => Handle;

/** Native kernels in native/kernels/reduce. */
export interface ReduceOps extends Record<ReductionOp, Reduction> {
  /** Over rows of `columns` elements. */
  softmax(x: Handle, columns: number): Handle;
  cumsum: Scan;
  cumprod: Scan;
  /** Values and indices, [rows, k]. */
  topK(x: Handle, columns: number, k: number): [Handle, Handle];
}
