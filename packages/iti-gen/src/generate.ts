/** Images of every combination of categories, in one folder per combination. */
import fs from 'node:fs/promises';
import path from 'node:path';
import { invalid, type JobContext, ProgressCounter, prose, writeFileAtomic } from '@equipoise/core';
import { encodePng, type SamplingInput, type TextToImagePipeline } from '@equipoise/diffusion';
import { decodeImage, type RgbImage } from '@equipoise/models';
import * as tf from '@tensorflow/tfjs-core';
import type { Combination, InclusivePrompts } from './embeddings.js';

export interface GenerateJob {
  readonly folder: string;
  readonly pipeline: TextToImagePipeline;
  readonly prompts: InclusivePrompts;
  /** Images in all. */
  readonly count: number;
  /** Share of each combination, in order; equal shares if absent. */
  readonly shares?: readonly number[];
  readonly seed: number;
  readonly sampling: Omit<SamplingInput, 'seed' | 'seeds' | 'imagesPerPrompt'>;
  /** Images sampled together. Default 16. */
  readonly batch?: number;
}

export interface GeneratedImage {
  readonly file: string;
  readonly combination: Combination;
  readonly seed: number;
}

/** Whole numbers that sum to `count` and follow `shares` as closely as possible (largest remainders). */
export function apportion(count: number, shares: readonly number[]): number[] {
  const total = shares.reduce((sum, share) => sum + share, 0);
  if (!(total > 0) || shares.some((share) => !(share >= 0)))
    throw invalid('shares', 'non-negative numbers, not all zero', shares);
  const exact = shares.map((share) => (share / total) * count);
  const whole = exact.map(Math.floor);
  const order = exact
    .map((value, i) => [value - Math.floor(value), i] as const)
    .sort(([a, i], [b, j]) => b - a || i - j);
  const missing = count - whole.reduce((sum, n) => sum + n, 0);
  for (const [, i] of order.slice(0, missing)) whole[i] = (whole[i] as number) + 1;
  return whole;
}

function folderOf({ labels }: Combination): string {
  return Object.entries(labels)
    .map(([attribute, category]) => `${attribute}_${category}`)
    .join('_')
    .replace(/[^A-Za-z0-9._-]+/g, '-');
}

/** The images of a job, as names and seeds: image i of a combination has seed + i, whatever the batch. */
export function planImages({ folder, prompts, count, shares, seed }: GenerateJob): GeneratedImage[] {
  const { combinations } = prompts;
  if (shares !== undefined && shares.length !== combinations.length)
    throw invalid('shares', `${combinations.length} numbers, one per combination`, shares.length);
  const counts = apportion(count, shares ?? combinations.map(() => 1));
  return combinations.flatMap((combination, c) =>
    Array.from({ length: counts[c] as number }, (_, i) => ({
      file: path.join(folder, folderOf(combination), `${String(i).padStart(5, '0')}.png`),
      combination,
      seed: seed + i,
    })),
  );
}

/** Makes the images that are not there yet. */
export async function generateImages(job: GenerateJob, context: JobContext = {}): Promise<GeneratedImage[]> {
  const { pipeline, prompts, sampling, batch = 16 } = job;
  const planned = planImages(job);
  const present = await Promise.all(
    planned.map(({ file }) =>
      fs.stat(file).then(
        () => true,
        () => false,
      ),
    ),
  );
  const missing = planned.filter((_, i) => !present[i]);
  const progress = new ProgressCounter('images', context, { total: planned.length, unit: 'image' });
  progress.advance(planned.length - missing.length);
  const rows = new Map(prompts.combinations.map((combination, i) => [combination, i]));
  const [, length, width] = prompts.shape;
  for (let start = 0; start < missing.length; start += batch) {
    const part = missing.slice(start, start + batch);
    const promptEmbeds = tf.tensor3d(
      concatenateRows(
        prompts,
        part.map(({ combination }) => rows.get(combination) as number),
      ),
      [part.length, length, width],
    );
    const { images, latents } = await pipeline
      .generate(
        { promptEmbeds, negativePrompt: '' },
        { ...sampling, seeds: part.map(({ seed }) => seed) },
        { signal: context.signal },
      )
      .finally(() => promptEmbeds.dispose());
    latents.dispose();
    for (const [i, image] of images.entries()) {
      const { file, combination, seed } = part[i] as GeneratedImage;
      await fs.mkdir(path.dirname(file), { recursive: true });
      await writeFileAtomic(
        file,
        await encodePng(image, { prompt: prompts.prompt, inclusive: combination.labels, seed, ...sampling }),
      );
    }
    progress.advance(part.length);
  }
  return planned;
}

function concatenateRows(
  { embeddings, shape: [, length, width] }: InclusivePrompts,
  rows: readonly number[],
): Float32Array {
  const out = new Float32Array(rows.length * length * width);
  for (const [i, row] of rows.entries())
    out.set(embeddings.subarray(row * length * width, (row + 1) * length * width), i * length * width);
  return out;
}

/** Images from plain text prompts, for comparison: prompt p gets its share of the count. */
export async function generateFromPrompts(
  pipeline: TextToImagePipeline,
  folder: string,
  prompts: readonly string[],
  count: number,
  seed: number,
  sampling: GenerateJob['sampling'],
  context: JobContext = {},
  batch = 16,
): Promise<string[]> {
  if (prompts.length === 0) throw invalid('prompts', 'at least one prompt', prose('none'));
  const counts = apportion(
    count,
    prompts.map(() => 1),
  );
  const planned = prompts.flatMap((prompt, p) =>
    Array.from({ length: counts[p] as number }, (_, i) => ({
      prompt,
      seed: seed + i,
      file: path.join(folder, `${p}-${String(i).padStart(5, '0')}.png`),
    })),
  );
  const present = await Promise.all(
    planned.map(({ file }) =>
      fs.stat(file).then(
        () => true,
        () => false,
      ),
    ),
  );
  const missing = planned.filter((_, i) => !present[i]);
  await fs.mkdir(folder, { recursive: true });
  const progress = new ProgressCounter('images', context, { total: planned.length, unit: 'image' });
  progress.advance(planned.length - missing.length);
  for (let start = 0; start < missing.length; start += batch) {
    const part = missing.slice(start, start + batch);
    const { images, latents } = await pipeline.generate(
      { prompt: part.map(({ prompt }) => prompt) },
      { ...sampling, seeds: part.map((image) => image.seed) },
      { signal: context.signal },
    );
    latents.dispose();
    for (const [i, image] of images.entries()) {
      const { file, prompt, seed: own } = part[i] as (typeof part)[number];
      await writeFileAtomic(file, await encodePng(image, { prompt, seed: own, ...sampling }));
    }
    progress.advance(part.length);
  }
  return planned.map(({ file }) => file);
}

/** Decodes the images of a job, in order. */
export async function readImages(files: readonly string[]): Promise<RgbImage[]> {
  const images: RgbImage[] = [];
  for (const file of files) images.push(await decodeImage(file));
  return images;
}
