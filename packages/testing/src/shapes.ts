/**
 * Shape sets that kernels and models are tested on: empty, single, odd, just around vector and tile sizes,
 * unaligned, and the sizes real models use.
 */

/** Lengths around the widths of vector registers, cache lines, warps and tiles. */
export const LENGTHS: readonly number[] = [
  0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 127, 129, 255, 257, 1000, 1023,
];

/** Shapes of any rank for elementwise operations and copies. */
export const SHAPES: readonly (readonly number[])[] = [
  [],
  [0],
  [1],
  [17],
  [0, 5],
  [3, 0, 2],
  [1, 1],
  [7, 13],
  [1, 77, 5],
  [2, 3, 5],
  [2, 1, 9, 1],
  [1, 8, 8, 4],
  [2, 3, 5, 7],
  [1, 2, 1, 3, 5],
  [2, 1, 3, 2, 1, 5],
];

/** [rows, columns] for norms, softmax and reductions over the last axis. */
export const ROWS: readonly (readonly [number, number])[] = [
  [0, 8],
  [1, 1],
  [1, 3],
  [3, 17],
  [5, 64],
  [7, 77],
  [2, 320],
  [9, 1023],
  [3, 1280],
  [2, 4097],
];

/** [m, n, k] for matrix products. */
export const GEMMS: readonly (readonly [number, number, number])[] = [
  [0, 4, 4],
  [4, 0, 4],
  [4, 4, 0],
  [1, 1, 1],
  [1, 7, 5],
  [3, 1, 17],
  [5, 9, 1],
  [15, 17, 33],
  [16, 16, 32],
  [33, 65, 129],
  [64, 48, 96],
  [77, 64, 77],
  [128, 320, 64],
  [31, 127, 257],
];

/** One NHWC convolution. */
export interface ConvCase {
  readonly input: readonly [number, number, number, number];
  /** [kernel height, kernel width, in channels, out channels] */
  readonly filter: readonly [number, number, number, number];
  readonly stride: number;
  readonly pad: 'same' | 'valid' | readonly [readonly [number, number], readonly [number, number]];
  readonly dilation: number;
}

function conv(
  input: ConvCase['input'],
  kernel: number,
  outChannels: number,
  rest: Partial<Pick<ConvCase, 'stride' | 'pad' | 'dilation'>> = {},
): ConvCase {
  return {
    input,
    filter: [kernel, kernel, input[3], outChannels],
    stride: 1,
    pad: 'same',
    dilation: 1,
    ...rest,
  };
}

const ONE_AROUND = [
  [1, 1],
  [1, 1],
] as const;
const BOTTOM_RIGHT = [
  [0, 1],
  [0, 1],
] as const;

/** Small convolutions of every kind the models use, and awkward ones. */
export const CONVS: readonly ConvCase[] = [
  conv([0, 4, 4, 3], 3, 5),
  conv([1, 1, 1, 1], 1, 1),
  conv([1, 1, 1, 4], 3, 3),
  conv([2, 5, 7, 3], 1, 4),
  conv([2, 5, 7, 3], 3, 4),
  conv([1, 8, 8, 4], 3, 32, { pad: ONE_AROUND }),
  conv([1, 8, 8, 16], 3, 16, { stride: 2, pad: ONE_AROUND }),
  conv([1, 9, 7, 16], 3, 17, { stride: 2, pad: BOTTOM_RIGHT }),
  conv([1, 9, 9, 5], 3, 6, { pad: 'valid' }),
  conv([1, 11, 6, 3], 3, 2, { dilation: 2 }),
  conv([1, 14, 14, 3], 7, 8, { stride: 7, pad: 'valid' }),
  conv([2, 16, 16, 33], 3, 65),
];

/** One attention problem. */
export interface AttentionCase {
  readonly batch: number;
  readonly heads: number;
  readonly queries: number;
  readonly keys: number;
  readonly headDim: number;
  readonly causal: boolean;
}

/** Self, cross and causal attention, with the head sizes of the models (40, 64, 80, 160) and awkward ones. */
export const ATTENTIONS: readonly AttentionCase[] = [
  { batch: 0, heads: 2, queries: 4, keys: 4, headDim: 8, causal: false },
  { batch: 1, heads: 1, queries: 1, keys: 1, headDim: 1, causal: true },
  { batch: 2, heads: 3, queries: 5, keys: 7, headDim: 5, causal: false },
  { batch: 1, heads: 2, queries: 77, keys: 77, headDim: 64, causal: true },
  { batch: 1, heads: 8, queries: 64, keys: 77, headDim: 40, causal: false },
  { batch: 2, heads: 2, queries: 65, keys: 65, headDim: 80, causal: false },
  { batch: 1, heads: 2, queries: 33, keys: 130, headDim: 160, causal: false },
];

/** Product of a shape's sizes; 1 for a scalar. */
export function sizeOf(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}
