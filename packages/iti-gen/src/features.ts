/**
 * Image features: computed once per image and model, cached on disk by content hash. The published code recomputes
 * them in every batch; the images do not change, so the numbers are the same.
 */
import fs from 'node:fs/promises';
import path from 'node:path';
import { type JobContext, ProgressCounter, sha256Json, writeFileAtomic } from '@equipoise/core';
import {
  type CLIPModel,
  type ClipPreprocessOptions,
  clipPreprocess,
  decodeImage,
  unitLength,
} from '@equipoise/models';
import * as tf from '@tensorflow/tfjs-core';
import type { Attribute, ReferenceImage } from './attributes.js';

export interface FeatureSource {
  readonly clip: CLIPModel;
  /** Hash of the CLIP weights and config: another model must not meet the cache of this one. */
  readonly clipHash: string;
  readonly preprocess: ClipPreprocessOptions;
  /** Folder of the cache; none if absent. */
  readonly cacheFolder?: string;
  /** Images per forward. Default 16. */
  readonly batch?: number;
}

/** Unit-length CLIP features of images [images, D], row-major, in the order given. */
export async function imageFeatures(
  images: readonly ReferenceImage[],
  source: FeatureSource,
  context: JobContext = {},
): Promise<{ features: Float32Array; depth: number }> {
  const depth = source.clip.config.projection_dim;
  const features = new Float32Array(images.length * depth);
  const progress = new ProgressCounter('image features', context, { total: images.length, unit: 'image' });
  const missing: number[] = [];
  for (const [i, image] of images.entries()) {
    const cached = await readCached(source, image, depth);
    if (cached === undefined) missing.push(i);
    else features.set(cached, i * depth);
  }
  progress.advance(images.length - missing.length);
  const batch = source.batch ?? 16;
  for (let start = 0; start < missing.length; start += batch) {
    const indices = missing.slice(start, start + batch);
    const decoded = await Promise.all(indices.map((i) => decodeImage((images[i] as ReferenceImage).file)));
    const result = tf.tidy(() =>
      unitLength(source.clip.imageFeatures(clipPreprocess(decoded, source.preprocess))),
    );
    const values = (await result.data()) as Float32Array;
    result.dispose();
    for (const [k, i] of indices.entries()) {
      const row = values.subarray(k * depth, (k + 1) * depth);
      features.set(row, i * depth);
      await writeCached(source, images[i] as ReferenceImage, row);
    }
    progress.advance(indices.length);
  }
  return { features, depth };
}

function cacheFile(source: FeatureSource, image: ReferenceImage): string | undefined {
  if (source.cacheFolder === undefined) return undefined;
  const key = sha256Json({
    image: image.hash,
    clip: source.clipHash,
    preprocess: source.preprocess,
    // 1: without turning images upright by their EXIF orientation.
    format: 2,
  });
  return path.join(source.cacheFolder, key.slice(0, 2), `${key}.f32`);
}

async function readCached(
  source: FeatureSource,
  image: ReferenceImage,
  depth: number,
): Promise<Float32Array | undefined> {
  const file = cacheFile(source, image);
  if (file === undefined) return undefined;
  const bytes = await fs.readFile(file).catch(() => undefined);
  // A file of another length is no feature of ours: it is computed anew and replaced.
  if (bytes === undefined || bytes.byteLength !== depth * 4) return undefined;
  return new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
}

async function writeCached(source: FeatureSource, image: ReferenceImage, row: Float32Array): Promise<void> {
  const file = cacheFile(source, image);
  if (file === undefined) return;
  await writeFileAtomic(file, new Uint8Array(row.buffer, row.byteOffset, row.byteLength));
}

/** The features of one attribute's references, with the category of each. */
export interface AttributeFeatures {
  readonly features: Float32Array;
  readonly labels: Int32Array;
  readonly depth: number;
}

export async function attributeFeatures(
  attribute: Attribute,
  source: FeatureSource,
  context: JobContext = {},
): Promise<AttributeFeatures> {
  const images = attribute.categories.flatMap((category) => category.images);
  const labels = Int32Array.from(attribute.categories.flatMap((category, k) => category.images.map(() => k)));
  return { ...(await imageFeatures(images, source, context)), labels };
}

/** Per-category means of the chosen rows, and how many rows each has; a category without rows has a zero mean. */
export function categoryMeans(
  { features, labels, depth }: AttributeFeatures,
  rows: readonly number[],
  categories: number,
): { means: Float32Array; counts: number[] } {
  const sums = new Float64Array(categories * depth);
  const counts = new Array<number>(categories).fill(0);
  for (const row of rows) {
    const k = labels[row] as number;
    counts[k] = (counts[k] as number) + 1;
    for (let d = 0; d < depth; d++)
      sums[k * depth + d] = (sums[k * depth + d] as number) + (features[row * depth + d] as number);
  }
  const means = Float32Array.from(
    sums,
    (sum, i) => sum / Math.max(1, counts[Math.floor(i / depth)] as number),
  );
  return { means, counts };
}
