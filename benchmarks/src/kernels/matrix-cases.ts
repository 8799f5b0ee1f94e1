/** Shapes of the matrix kernel benchmarks: those of Stable Diffusion's networks, and of the tiny world's training. */

export type Precision = 'f32' | 'bf16';

/** y [m, n] = x [m, k] w [n, k]^T + b; for linearGradWeight dw [m, n] = dy [k, m]^T x [k, n]. */
export interface ProductCase {
  kind: 'linear' | 'linearGradWeight';
  m: number;
  n: number;
  k: number;
}
export interface BatchCase {
  kind: 'matmul';
  batch: number;
  m: number;
  n: number;
  k: number;
}
/** Square filters of `taps`, padded to keep the size at stride 1. */
export interface ConvCase {
  kind: 'conv' | 'convGradInput' | 'convGradFilter';
  batch: number;
  height: number;
  width: number;
  channels: number;
  outputs: number;
  taps: number;
  stride: number;
}
export type KernelCase = ProductCase | BatchCase | ConvCase;
export type Group = 'linear' | 'conv3x3' | 'training' | 'other';

const linear = (m: number, k: number, n: number): ProductCase => ({ kind: 'linear', m, n, k });
const conv = (
  kind: ConvCase['kind'],
  batch: number,
  size: number,
  channels: number,
  outputs = channels,
  taps = 3,
  stride = 1,
): ConvCase => ({
  kind,
  batch,
  height: size,
  width: size,
  channels,
  outputs,
  taps,
  stride,
});

export const CASES: ReadonlyArray<readonly [Group, KernelCase]> = [
  ['linear', linear(1024, 1024, 1024)],
  ['linear', linear(4096, 320, 320)],
  ['linear', linear(4096, 320, 2560)],
  ['linear', linear(1024, 640, 640)],
  ['linear', linear(256, 1280, 1280)],
  ['linear', linear(432, 768, 3072)],
  ['conv3x3', conv('conv', 1, 64, 320)],
  ['conv3x3', conv('conv', 1, 32, 640)],
  ['conv3x3', conv('conv', 1, 16, 1280)],
  ['training', conv('conv', 64, 16, 64)],
  ['training', conv('conv', 64, 16, 128)],
  ['training', conv('conv', 64, 16, 192)],
  ['training', conv('conv', 16, 64, 32)],
  ['training', conv('convGradInput', 64, 16, 128)],
  ['training', conv('convGradFilter', 64, 16, 64)],
  ['training', conv('convGradFilter', 64, 16, 128)],
  ['training', conv('convGradFilter', 16, 64, 32)],
  ['training', conv('conv', 64, 16, 128, 192, 3, 2)],
  ['training', linear(16384, 64, 64)],
  ['training', linear(16384, 128, 128)],
  ['training', linear(16384, 192, 192)],
  ['training', { kind: 'linearGradWeight', m: 128, n: 128, k: 16384 }],
  ['other', linear(1, 1280, 1280)],
  ['other', linear(2, 320, 1280)],
  ['other', linear(77, 768, 768)],
  ['other', { kind: 'matmul', batch: 64, m: 256, n: 256, k: 64 }],
  ['other', conv('conv', 1, 64, 4, 320)],
  ['other', conv('conv', 1, 64, 320, 4)],
  ['other', conv('conv', 1, 64, 320, 320, 1)],
];

/** Floating-point operations of one call. */
export function flops(c: KernelCase): number {
  if (c.kind === 'matmul') return 2 * c.batch * c.m * c.n * c.k;
  if ('m' in c) return 2 * c.m * c.n * c.k;
  const out = Math.ceil(c.height / c.stride) * Math.ceil(c.width / c.stride);
  return 2 * c.batch * out * c.channels * c.outputs * c.taps ** 2;
}

export function label(c: KernelCase): string {
  if (c.kind === 'matmul') return `matmul ${c.batch} x ${c.m}x${c.k}x${c.n}`;
  if ('m' in c) return `${c.kind} ${c.m} x ${c.k} x ${c.n}`;
  const stride = c.stride === 1 ? '' : ` /${c.stride}`;
  return `${c.kind} ${c.taps}x${c.taps}${stride} ${c.batch} x ${c.height}^2, ${c.channels} -> ${c.outputs}`;
}
