/** Sizes of the fused kernels' benchmarks: Stable Diffusion's layers, and the two methods' own kernels. */

export type Precision = 'f32' | 'bf16';

export type FusedCase = { f32Only?: true } & (
  | { kind: 'groupNorm'; batch: number; size: number; channels: number }
  | { kind: 'layerNorm' | 'geglu' | 'gelu'; rows: number; channels: number }
  | { kind: 'attention'; batch: number; heads: number; queries: number; keys: number; depth: number }
  | { kind: 'dora'; rows: number; inputs: number; outputs: number; rank: number }
  | { kind: 'direction'; categories: number[]; attribute: number; depth: number; f32Only: true }
  | { kind: 'guidedStep'; batch: number; size: number }
  | { kind: 'adamW'; elements: number; tensors: number; f32Only: true }
  | { kind: 'randomNormal'; elements: number; f32Only: true }
);

export const FUSED_CASES: readonly FusedCase[] = [
  { kind: 'groupNorm', batch: 2, size: 64, channels: 320 },
  { kind: 'groupNorm', batch: 2, size: 16, channels: 1280 },
  { kind: 'layerNorm', rows: 8192, channels: 320 },
  { kind: 'geglu', rows: 4096, channels: 1280 },
  { kind: 'gelu', rows: 432, channels: 3072 },
  { kind: 'attention', batch: 2, heads: 5, queries: 4096, keys: 4096, depth: 64 },
  { kind: 'attention', batch: 2, heads: 5, queries: 4096, keys: 77, depth: 64 },
  { kind: 'dora', rows: 4096, inputs: 320, outputs: 320, rank: 32 },
  { kind: 'dora', rows: 1024, inputs: 640, outputs: 640, rank: 32 },
  { kind: 'dora', rows: 256, inputs: 1280, outputs: 1280, rank: 32 },
  { kind: 'dora', rows: 8192, inputs: 640, outputs: 640, rank: 32 },
  { kind: 'direction', categories: [2, 6, 9], attribute: 0, depth: 768, f32Only: true },
  { kind: 'direction', categories: [2, 6, 9], attribute: 2, depth: 768, f32Only: true },
  { kind: 'guidedStep', batch: 50, size: 64 },
  { kind: 'adamW', elements: 6_739_456, tensors: 384, f32Only: true },
  { kind: 'randomNormal', elements: 819_200, f32Only: true },
];

/** A case as one line. */
export function fusedLabel(c: FusedCase): string {
  const { kind, f32Only, ...sizes } = c;
  return `${kind} ${Object.values(sizes).join(' x ')}`;
}
