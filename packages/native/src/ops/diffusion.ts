import type { Handle } from '../binding.js';

/** Native kernels in native/kernels/diffusion. */
export interface DiffusionOps {
  miSquaredNorm(epsCond: Handle, epsUncond: Handle, weights: Handle): Handle;
  /** The gradient with respect to epsCond. */
  miSquaredNormGrad(epsCond: Handle, epsUncond: Handle, weights: Handle, dy: Handle): Handle;
  /** [next, eps, mi] */
  guidedStep(
    epsUncond: Handle,
    epsCond: Handle,
    latents: Handle,
    noise: Handle | null,
    guidance: number,
    miWeight: number,
    cx: number,
    ce: number,
    cn: number,
  ): [Handle, Handle, Handle];
}
