import type { Handle } from '../binding.js';

/** Ops that read one tensor with strides; they differ in name only, for profiles and messages. */
export type ViewOp =
  | 'transpose'
  | 'slice'
  | 'stridedSlice'
  | 'split'
  | 'unpack'
  | 'reverse'
  | 'tile'
  | 'broadcast'
  | 'depthToSpace'
  | 'spaceToBatch'
  | 'batchToSpace';

/** The dense tensor of x[offset + sum i_d strides_d] for i_d < dims_d: strides in elements, 0 repeats. At most 16 dims. */
type View = (x: Handle, dims: readonly number[], strides: readonly number[], offset: number) => Handle;

/** Native kernels in native/kernels/movement. */
export interface MovementOps extends Record<ViewOp, View> {
  /** Parts seen as [outer, size, inner], joined to [outer, sum of sizes, inner]. */
  concat(parts: readonly Handle[], sizes: readonly number[], outer: number, inner: number): Handle;
  pad(
    x: Handle,
    shape: readonly number[],
    before: readonly number[],
    after: readonly number[],
    value: number,
  ): Handle;
  /** A square matrix with x on its diagonal. */
  diag(x: Handle): Handle;
}
