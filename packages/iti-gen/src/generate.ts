/** Images from inclusive or plain prompts, as resumable jobs: what is on the disk is not made again. */
import path from 'node:path';
import {
  exists,
  invalid,
  type JobContext,
  Pace,
  ProgressCounter,
  prose,
  writeFileAtomic,
} from '@equipoise/core';
import {
  encodePng,
  type GenerateInputs,
  type SamplingInput,
  type TextToImagePipeline,
} from '@equipoise/diffusion';
import { decodeImage, type RgbImage } from '@equipoise/models';
import * as tf from '@tensorflow/tfjs-core';
import { fileName } from './attributes.js';
import type { Combination, InclusivePrompts } from './embeddings.js';

export type Sampling = Omit<SamplingInput, 'seed' | 'seeds' | 'imagesPerPrompt'>;

/**
 * `shared`: image i of every prompt starts from the same noise, as published, so that prompts can be compared picture by
 * picture. `own`: every image starts from noise of its own, so that as many different pictures come out as are asked for.
 */
export const NOISES = ['shared', 'own'] as const;
export type Noise = (typeof NOISES)[number];

interface ImageJob {
  readonly folder: string;
  readonly pipeline: TextToImagePipeline;
  /** Images in all. */
  readonly count: number;
  readonly seed: number;
  /** Default `shared`. */
  readonly noise?: Noise;
  readonly sampling: Sampling;
  /** Images sampled together. Default 16. */
  readonly batch?: number;
}

export interface GenerateJob extends ImageJob {
  readonly prompts: InclusivePrompts;
  /** Share of each combination, in order; equal shares if absent. */
  readonly shares?: readonly number[];
}

/** Plain text prompts, for comparison; each gets its share of the count. */
export interface PromptJob extends ImageJob {
  readonly prompts: readonly string[];
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
  return fileName(Object.entries(labels).flat());
}

/** Seeds of the images of each prompt, whatever the batch. */
function noiseSeeds(counts: readonly number[], seed: number, noise: Noise = 'shared'): number[][] {
  let first = seed;
  return counts.map((count) => {
    const seeds = Array.from({ length: count }, (_, i) => first + i);
    if (noise === 'own') first += count;
    return seeds;
  });
}

/** The images of a job, as names and seeds. */
export function planImages({ folder, prompts, count, shares, seed, noise }: GenerateJob): GeneratedImage[] {
  const { combinations } = prompts;
  if (shares !== undefined && shares.length !== combinations.length)
    throw invalid('shares', `${combinations.length} numbers, one per combination`, shares.length);
  const counts = apportion(count, shares ?? combinations.map(() => 1));
  const folders = combinations.map(folderOf);
  const twice = folders.find((name, i) => folders.indexOf(name) !== i);
  if (twice !== undefined)
    throw invalid('combinations', 'names that differ as folders', prose(`"${twice}" twice`));
  const seeds = noiseSeeds(counts, seed, noise);
  return combinations.flatMap((combination, c) =>
    (seeds[c] as number[]).map((own, i) => ({
      file: path.join(folder, folders[c] as string, `${String(i).padStart(5, '0')}.png`),
      combination,
      seed: own,
    })),
  );
}

/** An image that is to be made, and what its file says of it. */
interface Planned {
  readonly file: string;
  readonly seed: number;
  readonly settings: Readonly<Record<string, unknown>>;
}

/** Makes the images that are not there yet, in batches. `inputs` tells what to draw; its tensors are freed here. */
async function makeMissing<T extends Planned>(
  planned: readonly T[],
  { pipeline, sampling, batch = 16 }: ImageJob,
  inputs: (part: readonly T[]) => GenerateInputs,
  context: JobContext,
): Promise<void> {
  const present = await Promise.all(planned.map(({ file }) => exists(file)));
  const missing = planned.filter((_, i) => !present[i]);
  const progress = new ProgressCounter('images', context, { total: planned.length, unit: 'image' });
  progress.advance(planned.length - missing.length);
  const pace = new Pace(missing.length, 'image');
  for (let start = 0; start < missing.length; start += batch) {
    const part = missing.slice(start, start + batch);
    const drawn = inputs(part);
    const { images, latents } = await pipeline
      .generate(drawn, { ...sampling, seeds: part.map(({ seed }) => seed) }, { signal: context.signal })
      .finally(() => drawn.promptEmbeds?.dispose());
    latents.dispose();
    for (const [i, image] of images.entries()) {
      const { file, seed, settings } = part[i] as T;
      await writeFileAtomic(file, await encodePng(image, { ...settings, seed, ...sampling }));
    }
    progress.advance(part.length, pace.advance(part.length));
  }
}

/** Makes the images of every combination that are not there yet; each file carries its categories. */
export async function generateImages(job: GenerateJob, context: JobContext = {}): Promise<GeneratedImage[]> {
  const { prompts } = job;
  const rows = new Map(prompts.combinations.map((combination, i) => [combination, i]));
  const images = planImages(job);
  const planned = images.map(({ file, seed, combination }) => ({
    file,
    seed,
    row: rows.get(combination) as number,
    settings: { prompt: prompts.prompt, inclusive: combination.labels },
  }));
  await makeMissing(
    planned,
    job,
    (part) => ({ promptEmbeds: gatherRows(prompts, part), negativePrompt: '' }),
    context,
  );
  return images;
}

function gatherRows(
  { embeddings, shape: [, length, width] }: InclusivePrompts,
  part: readonly { readonly row: number }[],
): tf.Tensor3D {
  const size = length * width;
  const out = new Float32Array(part.length * size);
  for (const [i, { row }] of part.entries())
    out.set(embeddings.subarray(row * size, (row + 1) * size), i * size);
  return tf.tensor3d(out, [part.length, length, width]);
}

/** Makes the images of plain prompts that are not there yet; gives the files and the index of each one's prompt. */
export async function generateFromPrompts(
  job: PromptJob,
  context: JobContext = {},
): Promise<{ file: string; prompt: number }[]> {
  const { prompts, folder, count } = job;
  if (prompts.length === 0) throw invalid('prompts', 'at least one prompt', prose('none'));
  const counts = apportion(
    count,
    prompts.map(() => 1),
  );
  const seeds = noiseSeeds(counts, job.seed, job.noise);
  const planned = prompts.flatMap((prompt, p) =>
    (seeds[p] as number[]).map((seed, i) => ({
      file: path.join(folder, `${p}-${String(i).padStart(5, '0')}.png`),
      seed,
      index: p,
      settings: { prompt },
    })),
  );
  await makeMissing(
    planned,
    job,
    (part) => ({ prompt: part.map(({ settings }) => settings.prompt) }),
    context,
  );
  return planned.map(({ file, index }) => ({ file, prompt: index }));
}

/** Decodes images, in order. */
export async function readImages(files: readonly string[]): Promise<RgbImage[]> {
  const images: RgbImage[] = [];
  for (const file of files) images.push(await decodeImage(file));
  return images;
}
