import type { Handle } from '../binding.js';

/** Order of `FusedActivation` in native/kernels/gemm/core/epilogue_args.h. Gelu is the exact one. */
export enum FusedActivation {
  None = 0,
  Relu = 1,
  Relu6 = 2,
  Elu = 3,
  LeakyRelu = 4,
  Prelu = 5,
  Sigmoid = 6,
  Silu = 7,
  Gelu = 8,
  QuickGelu = 9,
}

/** Native kernels in native/kernels/gemm. Vectors over columns may have one element; null where absent. */
export interface GemmOps {
  /** op(a) op(b), batch axes broadcast; f32 and bf16 in any mix, or int32. */
  matMul(a: Handle, b: Handle, transposeA: boolean, transposeB: boolean, storeF32: boolean): Handle;
  /** act(scale * op(a) op(b) + bias + beta * addend) */
  fusedMatMul(
    a: Handle,
    b: Handle,
    transposeA: boolean,
    transposeB: boolean,
    bias: Handle | null,
    activation: FusedActivation,
    leak: number,
    prelu: Handle | null,
    addend: Handle | null,
    beta: number,
    scale: number,
    storeF32: boolean,
  ): Handle;
  /**
   * act(columnScale * (x weight^T + scale2 * x2 weight2^T) + bias + addend): x [.., K], weight [N, K], x2 [M, r],
   * weight2 [N, r], addend shaped as the result, which is stored as f32 where the addend is.
   */
  linear(
    x: Handle,
    weight: Handle,
    bias: Handle | null,
    activation: FusedActivation,
    x2: Handle | null,
    weight2: Handle | null,
    scale2: number,
    columnScale: Handle | null,
    storeF32: boolean,
    addend: Handle | null,
  ): Handle;
  /** For benchmarks: multiply-adds on registers alone, of floats or bf16 pairs. The profile tells the FLOPs. */
  ceilingMultiply(half: boolean, rounds: number): Handle;
  /** For benchmarks: a copy through memory. */
  ceilingCopy(x: Handle): Handle;
}
