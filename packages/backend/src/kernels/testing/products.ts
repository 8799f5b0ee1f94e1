/** Matrix products and what follows them, in float64. */
import { FusedActivation } from '@equipoise/native';
import { ACTIVATIONS64 } from '@equipoise/testing';

export interface Product {
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly transposeA?: boolean;
  readonly transposeB?: boolean;
}

/** [m, k] times [k, n], either of them stored transposed. */
export function product64(a: Float32Array, b: Float32Array, product: Product): Float64Array {
  const { m, n, k, transposeA, transposeB } = product;
  const c = new Float64Array(m * n);
  for (let i = 0; i < m; i++) {
    for (let d = 0; d < k; d++) {
      const x = a[transposeA ? d * m + i : i * k + d] as number;
      for (let j = 0; j < n; j++) c[i * n + j]! += x * (b[transposeB ? j * k + d : d * n + j] as number);
    }
  }
  return c;
}

const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));
/** The activations of epilogues; `leak` is read by LeakyRelu, `slope` by Prelu. */
export const EPILOGUES64: Record<FusedActivation, (x: number, leak: number, slope: number) => number> = {
  [FusedActivation.None]: ACTIVATIONS64.none,
  [FusedActivation.Relu]: ACTIVATIONS64.relu,
  [FusedActivation.Relu6]: (x) => Math.min(Math.max(x, 0), 6),
  [FusedActivation.Elu]: (x) => (x < 0 ? Math.expm1(x) : x),
  [FusedActivation.LeakyRelu]: (x, leak) => (x < 0 ? leak * x : x),
  [FusedActivation.Prelu]: (x, _, slope) => (x < 0 ? slope * x : x),
  [FusedActivation.Sigmoid]: sigmoid,
  [FusedActivation.Silu]: ACTIVATIONS64.silu,
  [FusedActivation.Gelu]: ACTIVATIONS64.gelu,
  [FusedActivation.QuickGelu]: ACTIVATIONS64.quick_gelu,
};
