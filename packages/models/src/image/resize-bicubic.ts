/**
 * Bicubic resampling that equals Pillow's byte for byte (versions before 13, which first changed the order
 * of the passes; models were trained on what the earlier ones make).
 *
 * Keys' kernel with a = -1/2 (Keys 1981), widened by the scale factor when shrinking; taps outside the
 * image are dropped and the rest renormalised; weights in 22-bit fixed point; the horizontal pass first,
 * rounded to bytes, then the vertical one, except for images over a hundred times taller than wide that
 * shrink. Other resamplers differ from it by several grey levels.
 */
import { invalid } from '@equipoise/core';

/** 8-bit RGB, row-major, three bytes a pixel. */
export interface RgbImage {
  readonly width: number;
  readonly height: number;
  readonly data: Uint8Array;
}

const channels = 3;
/** Images taller than this many widths shrink vertically first. */
const tallRatio = 100;
const weightBits = 22;
const half = 1 << (weightBits - 1);

function kernel(distance: number): number {
  const a = -0.5;
  const x = Math.abs(distance);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
  return 0;
}

/** For each output position the first input position, the number of taps, and their weights. */
interface Taps<W = Int32Array> {
  readonly first: Int32Array;
  readonly count: Int32Array;
  /** `stride` per output position; in fixed point for bytes. */
  readonly weights: W;
  readonly stride: number;
}

/** Taps for bytes: weights in fixed point. */
function makeTaps(inputSize: number, outputSize: number): Taps {
  const exact = makeExactTaps(inputSize, outputSize);
  const weights = Int32Array.from(exact.weights, (weight) =>
    Math.trunc(weight * (1 << weightBits) + (weight < 0 ? -0.5 : 0.5)),
  );
  return { ...exact, weights };
}

function makeExactTaps(inputSize: number, outputSize: number): Taps<Float64Array> {
  const scale = inputSize / outputSize;
  const filterScale = Math.max(scale, 1);
  const support = 2 * filterScale;
  const stride = Math.ceil(support) * 2 + 1;
  const first = new Int32Array(outputSize);
  const count = new Int32Array(outputSize);
  const weights = new Float64Array(outputSize * stride);
  for (let i = 0; i < outputSize; i++) {
    const center = (i + 0.5) * scale;
    const low = Math.max(Math.trunc(center - support + 0.5), 0);
    const taps = Math.min(Math.trunc(center + support + 0.5), inputSize) - low;
    let sum = 0;
    for (let k = 0; k < taps; k++) {
      const weight = kernel((k + low - center + 0.5) * (1 / filterScale));
      weights[i * stride + k] = weight;
      sum += weight;
    }
    for (let k = 0; k < taps; k++) weights[i * stride + k] = (weights[i * stride + k] as number) / sum;
    first[i] = low;
    count[i] = taps;
  }
  return { first, count, weights, stride };
}

/**
 * Resamples along one axis.
 * @param lines lines to process, each `lineStep` apart in both images
 * @param step distance between neighbours along the axis; the same in both images
 */
function resample(
  input: Uint8Array,
  output: Uint8Array,
  taps: Taps,
  lines: number,
  steps: { input: number; output: number; along: number },
): void {
  const { first, count, weights, stride } = taps;
  const along = steps.along;
  for (let line = 0; line < lines; line++) {
    const inputLine = line * steps.input;
    const outputLine = line * steps.output;
    for (let i = 0; i < first.length; i++) {
      const base = inputLine + (first[i] as number) * along;
      const taken = count[i] as number;
      for (let c = 0; c < channels; c++) {
        let sum = half;
        for (let k = 0; k < taken; k++) {
          sum += (weights[i * stride + k] as number) * (input[base + k * along + c] as number);
        }
        const value = sum >> weightBits;
        output[outputLine + i * along + c] = value < 0 ? 0 : value > 255 ? 255 : value;
      }
    }
  }
}

function checkSize(name: string, size: number): void {
  if (!Number.isInteger(size) || size < 1 || size > 65_535)
    throw invalid(name, 'an integer from 1 to 65535', size);
}

function resizeWidth(image: RgbImage, width: number): RgbImage {
  if (width === image.width) return image;
  const data = new Uint8Array(width * image.height * channels);
  resample(image.data, data, makeTaps(image.width, width), image.height, {
    input: image.width * channels,
    output: width * channels,
    along: channels,
  });
  return { width, height: image.height, data };
}

function resizeHeight(image: RgbImage, height: number): RgbImage {
  if (height === image.height) return image;
  const row = image.width * channels;
  const data = new Uint8Array(row * height);
  // A "line" is one column; its neighbours along the axis lie a whole row apart.
  resample(image.data, data, makeTaps(image.height, height), image.width, {
    input: channels,
    output: channels,
    along: row,
  });
  return { width: image.width, height, data };
}

/** Resizes to exactly `width` x `height`; a side that stays the same is not resampled. */
export function resizeBicubic(image: RgbImage, width: number, height: number): RgbImage {
  checkSize('width', width);
  checkSize('height', height);
  const tall = image.height > image.width * tallRatio && height < image.height;
  return tall
    ? resizeWidth(resizeHeight(image, height), width)
    : resizeHeight(resizeWidth(image, width), height);
}

/**
 * The same without rounding: Pillow's resampling of each channel as floating-point numbers (mode F), horizontally
 * first; single precision between the passes. Values may lie outside 0 to 255.
 *
 * @returns height x width x 3
 */
export function resizeBicubicFloat(image: RgbImage, width: number, height: number): Float32Array {
  checkSize('width', width);
  checkSize('height', height);
  const input = Float32Array.from(image.data);
  const wide = new Float32Array(width * image.height * channels);
  resampleExactly(input, wide, makeExactTaps(image.width, width), image.height, {
    input: image.width * channels,
    output: width * channels,
    along: channels,
  });
  const row = width * channels;
  const output = new Float32Array(row * height);
  resampleExactly(wide, output, makeExactTaps(image.height, height), width, {
    input: channels,
    output: channels,
    along: row,
  });
  return output;
}

function resampleExactly(
  input: Float32Array,
  output: Float32Array,
  { first, count, weights, stride }: Taps<Float64Array>,
  lines: number,
  steps: { input: number; output: number; along: number },
): void {
  const { along } = steps;
  for (let line = 0; line < lines; line++) {
    for (let i = 0; i < first.length; i++) {
      const base = line * steps.input + (first[i] as number) * along;
      for (let c = 0; c < channels; c++) {
        let sum = 0;
        for (let k = 0; k < (count[i] as number); k++)
          sum += (weights[i * stride + k] as number) * (input[base + k * along + c] as number);
        output[line * steps.output + i * along + c] = sum;
      }
    }
  }
}
