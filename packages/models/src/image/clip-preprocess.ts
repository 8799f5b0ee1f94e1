/** CLIP's image preprocessing: resize the short side, crop the centre, scale and normalise. */
import { invalid, roundHalfEven } from '@equipoise/core';
import * as tf from '@tensorflow/tfjs-core';
import { type RgbImage, resizeBicubic } from './resize-bicubic.js';

/** Mean and standard deviation of CLIP's training images, RGB in [0, 1] (Radford et al. 2021). */
export const clipMean: readonly number[] = [0.48145466, 0.4578275, 0.40821073];
export const clipStd: readonly number[] = [0.26862954, 0.26130258, 0.27577711];

export interface ClipPreprocessOptions {
  /** Length of the short side after resizing. Default 224. */
  shortestEdge?: number;
  /** Side of the centre crop; at most shortestEdge. Default 224. */
  crop?: number;
  mean?: readonly number[];
  std?: readonly number[];
  /**
   * Where the crop starts when the margin is odd: transformers rounds down ('hf'), OpenAI's code rounds
   * half to even ('openai'). Default 'hf'.
   */
  rounding?: 'hf' | 'openai';
}

/** The short side becomes `edge`, the long one keeps the ratio, rounded down. */
export function resizeShortestEdge(image: RgbImage, edge: number): RgbImage {
  const { width, height } = image;
  const long = Math.trunc((edge * Math.max(width, height)) / Math.min(width, height));
  return width <= height ? resizeBicubic(image, edge, long) : resizeBicubic(image, long, edge);
}

/** The middle `size` x `size` pixels. */
export function centerCrop(image: RgbImage, size: number, rounding: 'hf' | 'openai'): RgbImage {
  if (image.width < size || image.height < size) {
    throw invalid('crop', `at most the image's sides (${image.width} x ${image.height})`, size);
  }
  const start = (side: number): number => {
    const margin = (side - size) / 2;
    return rounding === 'hf' ? Math.floor(margin) : roundHalfEven(margin);
  };
  const [left, top] = [start(image.width), start(image.height)];
  const data = new Uint8Array(size * size * 3);
  for (let y = 0; y < size; y++) {
    const from = ((top + y) * image.width + left) * 3;
    data.set(image.data.subarray(from, from + size * 3), y * size * 3);
  }
  return { width: size, height: size, data };
}

/** Resized and cropped, still 8-bit. */
export function clipCrop(image: RgbImage, options: ClipPreprocessOptions = {}): RgbImage {
  const { shortestEdge = 224, crop = 224, rounding = 'hf' } = options;
  return centerCrop(resizeShortestEdge(image, shortestEdge), crop, rounding);
}

/**
 * A batch for a vision tower.
 * @returns float32 [images, crop, crop, 3], normalised
 */
export function clipPreprocess(
  images: readonly RgbImage[],
  options: ClipPreprocessOptions = {},
): tf.Tensor4D {
  const { crop = 224, mean = clipMean, std = clipStd } = options;
  const size = crop * crop * 3;
  const values = new Float32Array(images.length * size);
  for (const [i, image] of images.entries()) {
    const { data } = clipCrop(image, options);
    for (let k = 0; k < size; k++) {
      const scaled = Math.fround((data[k] as number) / 255);
      values[i * size + k] = (scaled - (mean[k % 3] as number)) / (std[k % 3] as number);
    }
  }
  return tf.tensor4d(values, [images.length, crop, crop, 3]);
}

type Json = Record<string, unknown>;

function sideOf(value: unknown, key: string, source: string): number {
  const object = typeof value === 'object' && value !== null ? (value as Json) : {};
  const square = object['height'] === object['width'] ? object['height'] : undefined;
  const side = typeof value === 'number' ? value : (object['shortest_edge'] ?? square);
  if (Number.isInteger(side) && (side as number) > 0) return side as number;
  throw invalid(`${source}: ${key}`, 'an integer, {"shortest_edge": n} or equal height and width', value);
}

/**
 * Reads a preprocessor_config.json, with CLIPImageProcessor's defaults; steps switched off and kernels
 * other than bicubic are refused.
 */
export function parsePreprocessorConfig(
  json: unknown,
  source = 'preprocessor_config.json',
): Required<ClipPreprocessOptions> {
  if (typeof json !== 'object' || json === null) throw invalid(source, 'a JSON object', json);
  const config = json as Json;
  for (const key of ['do_resize', 'do_center_crop', 'do_rescale', 'do_normalize', 'do_convert_rgb']) {
    if ((config[key] ?? true) !== true)
      throw invalid(`${source}: ${key}`, 'true', config[key], { code: 'unsupported' });
  }
  if ((config['resample'] ?? 3) !== 3) {
    throw invalid(`${source}: resample`, '3 (bicubic)', config['resample'], { code: 'unsupported' });
  }
  const numbers = (key: string, fallback: readonly number[]): readonly number[] => {
    const value = config[key] ?? fallback;
    const valid = Array.isArray(value) && value.length === 3 && value.every((item) => Number.isFinite(item));
    if (!valid) throw invalid(`${source}: ${key}`, 'three numbers', value);
    return value as number[];
  };
  return {
    shortestEdge: sideOf(config['size'] ?? 224, 'size', source),
    crop: sideOf(config['crop_size'] ?? 224, 'crop_size', source),
    mean: numbers('image_mean', clipMean),
    std: numbers('image_std', clipStd),
    rounding: 'hf',
  };
}
