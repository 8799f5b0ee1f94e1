import type { Handle } from '../binding.js';

/** Native kernels in native/kernels/norm. */
export interface NormOps {
  /** [y, mean, rstd] */
  layerNorm(x: Handle, gamma: Handle, beta: Handle, epsilon: number): [Handle, Handle, Handle];
  layerNormGrad(x: Handle, gamma: Handle, mean: Handle, rstd: Handle, dy: Handle): Handle;
  /** [dgamma, dbeta] */
  layerNormParamGrad(x: Handle, mean: Handle, rstd: Handle, dy: Handle): [Handle, Handle];
  /** [y, mean, rstd] */
  groupNorm(
    x: Handle,
    gamma: Handle,
    beta: Handle,
    groups: number,
    epsilon: number,
    silu: boolean,
  ): [Handle, Handle, Handle];
  /** [dx], or [dgamma, dbeta] where `parameters` */
  groupNormGrad(
    x: Handle,
    gamma: Handle,
    beta: Handle,
    mean: Handle,
    rstd: Handle,
    dy: Handle,
    groups: number,
    silu: boolean,
    parameters: boolean,
  ): Handle[];
}
