/** Where latents' noise comes from: counter-based streams, or PyTorch's CPU generator. */
import { randomNormal } from '@equipoise/backend';
import { invalid, streamId, TorchGenerator } from '@equipoise/core';
import * as tf from '@tensorflow/tfjs-core';

export type RngName = 'philox' | 'torch';

/** Unit normal noise for a batch of latents, drawn in order: the initial latents, then step by step. */
export interface LatentNoise {
  /** [N, h, w, C]; call it first, once. */
  initial(): tf.Tensor4D;
  /** Noise of the sampler's step `index`, same shape; call it for rising indices. */
  step(index: number): tf.Tensor4D;
}

export type LatentShape = readonly [count: number, height: number, width: number, channels: number];

/** The stream of initial latents under an image's own seed. */
export const latentStream: bigint = streamId('diffusion', 'latents');

/** The stream of the noise of one sampling step under an image's own seed. */
export function stepStream(index: number): bigint {
  return streamId('diffusion', 'step', index);
}

/** Seeds of each image: given one by one, or counted up from the first. */
export function imageSeeds(seed: number, seeds: readonly number[] | undefined, count: number): number[] {
  if (seeds === undefined) return Array.from({ length: count }, (_, i) => seed + i);
  if (seeds.length !== count) throw invalid('seeds', `${count} seeds, one for each image`, seeds.length);
  return [...seeds];
}

/** Noise that depends on each image's seed alone: not on its batch, not on what was drawn before. */
function philoxNoise(shape: LatentShape, seeds: readonly number[]): LatentNoise {
  const draw = (stream: bigint): tf.Tensor4D =>
    tf.tidy(
      () => tf.stack(seeds.map((seed) => randomNormal(shape.slice(1), { seed, stream }))) as tf.Tensor4D,
    );
  return { initial: () => draw(latentStream), step: (index) => draw(stepStream(index)) };
}

/** Channels-first numbers, as torch draws them, to the channels-last layout used here. */
function channelsLast(values: Float32Array, [count, height, width, channels]: LatentShape): Float32Array {
  const out = new Float32Array(values.length);
  const plane = height * width;
  for (let n = 0; n < count; n++) {
    for (let c = 0; c < channels; c++) {
      const from = (n * channels + c) * plane;
      for (let i = 0; i < plane; i++) out[(n * plane + i) * channels + c] = values[from + i] as number;
    }
  }
  return out;
}

/**
 * The draws that diffusers makes: with one generator a single call for the whole batch, with a list of
 * generators a call for each image; initial latents first, then one more for each step that wants noise.
 */
function torchNoise(shape: LatentShape, generators: readonly TorchGenerator[]): LatentNoise {
  const perDraw = shape.reduce((product, size) => product * size, 1) / generators.length;
  const draw = (): tf.Tensor4D => {
    const values = new Float32Array(perDraw * generators.length);
    for (const [i, generator] of generators.entries()) values.set(generator.randn(perDraw), i * perDraw);
    return tf.tensor4d(channelsLast(values, shape), [...shape]);
  };
  return { initial: draw, step: draw };
}

/**
 * Makes the noise of one generation call.
 * @param seeds one for each image; without it, `seed` serves as described at `samplingOptions`
 */
export function latentNoise(
  rng: RngName,
  shape: LatentShape,
  seed: number,
  seeds?: readonly number[],
): LatentNoise {
  if (rng === 'philox') return philoxNoise(shape, imageSeeds(seed, seeds, shape[0]));
  if (seeds !== undefined) imageSeeds(seed, seeds, shape[0]);
  return torchNoise(
    shape,
    (seeds ?? [seed]).map((value) => new TorchGenerator(value)),
  );
}
