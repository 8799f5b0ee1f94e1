import type { Handle } from '../binding.js';

/** Order of `Activation` in native/kernels/activation/unary/op.h. */
export enum NativeActivation {
  Silu = 0,
  Gelu = 1,
  QuickGelu = 2,
}

/** Native kernels in native/kernels/activation. With `dy` they give the gradient. */
export interface ActivationOps {
  activation(kind: NativeActivation, x: Handle, dy: Handle | null): Handle;
  geglu(x: Handle, dy: Handle | null): Handle;
}
