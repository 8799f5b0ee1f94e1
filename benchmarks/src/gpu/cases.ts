/** What is timed on a GPU: the families of the kernel suite, at sizes that fill one. */
import type { Precision } from '@equipoise/backend';
import type { Sizes } from '../kernels/case.js';

export interface GpuCase {
  /** A name of kernels/families.ts. */
  readonly family: string;
  readonly sizes: Sizes;
  readonly precision: Precision;
  /** Calls in one recording: many where one takes microseconds. */
  readonly inner: number;
}

const each = (family: string, precision: Precision, inner: number, sizes: readonly Sizes[]): GpuCase[] =>
  sizes.map((s) => ({ family, sizes: s, precision, inner }));

const IMAGES = 16;
/** Layers of SD-2.1's UNet for 16 images. */
const LAYERS = [
  { m: IMAGES * 4096, k: 320, n: 320 },
  { m: IMAGES * 1024, k: 640, n: 640 },
  { m: IMAGES * 256, k: 1280, n: 1280 },
];

export const GPU_CASES: readonly GpuCase[] = [
  ...each('guidedStep', 'f32', 50, [{ batch: 50, size: 64 }]),
  ...each('guidedStep', 'bf16', 50, [{ batch: 50, size: 64 }]),
  ...each('guidedStep', 'bf16', 10, [{ batch: 1024, size: 64 }]),
  ...each('directionAlignment', 'f32', 20, [{ before: 2, categories: 6, after: 9, depth: 768 }]),
  ...each('linear', 'bf16', 10, LAYERS),
  ...each('frozenLinear', 'bf16', 5, LAYERS),
  ...each(
    'doraLinear',
    'bf16',
    5,
    LAYERS.map((layer) => ({ ...layer, r: 32 })),
  ),
  ...each('attention', 'bf16', 3, [
    { batch: IMAGES, heads: 5, queries: 4096, keys: 4096, depth: 64 },
    { batch: IMAGES, heads: 10, queries: 1024, keys: 1024, depth: 64 },
    { batch: IMAGES, heads: 20, queries: 256, keys: 256, depth: 64 },
    { batch: IMAGES, heads: 5, queries: 4096, keys: 77, depth: 64 },
  ]),
  ...each('conv2d', 'bf16', 3, [
    { batch: IMAGES, size: 64, in: 320, out: 320, taps: 3, stride: 1 },
    { batch: IMAGES, size: 32, in: 640, out: 640, taps: 3, stride: 1 },
    { batch: IMAGES, size: 16, in: 1280, out: 1280, taps: 3, stride: 1 },
  ]),
  ...each('groupNorm', 'bf16', 5, [
    { size: 64, channels: 320 },
    { size: 512, channels: 320 },
  ]),
  ...each('layerNorm', 'bf16', 5, [{ rows: IMAGES * 4096, columns: 320 }]),
  ...each('geglu', 'bf16', 5, [{ rows: IMAGES * 1024, columns: 2560 }]),
  ...each('add', 'bf16', 5, [{ rows: IMAGES * 4096, columns: 1280 }]),
  ...each('adamW', 'f32', 5, [
    { tensors: 128, size: 51200 },
    { tensors: 8, size: 8 << 20 },
  ]),
];
