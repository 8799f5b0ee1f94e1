import type { Handle } from '../binding.js';

/** Native kernels in native/kernels/adapter. */
export interface AdapterOps {
  doraNorm(weight: Handle, loraA: Handle, loraB: Handle, scaling: number): Handle;
  /** [y, u], and the scale where magnitude and norm are given */
  doraLinear(
    x: Handle,
    weight: Handle,
    loraA: Handle,
    loraB: Handle,
    magnitude: Handle | null,
    norm: Handle | null,
    bias: Handle | null,
    scaling: number,
  ): [Handle, Handle, Handle?];
  doraGradHidden(dy: Handle, loraB: Handle, scale: Handle | null, scaling: number): Handle;
  doraGradInput(dy: Handle, h: Handle, weight: Handle, loraA: Handle, scale: Handle | null): Handle;
  /** [dA, dB] */
  doraGradLora(
    x: Handle,
    dy: Handle,
    u: Handle,
    h: Handle,
    scale: Handle | null,
    scaling: number,
  ): [Handle, Handle];
  doraGradMagnitude(
    x: Handle,
    dy: Handle,
    y: Handle,
    u: Handle,
    weight: Handle,
    loraB: Handle,
    scale: Handle,
    norm: Handle,
    bias: Handle | null,
    scaling: number,
  ): Handle;
}
