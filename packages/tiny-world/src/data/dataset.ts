/**
 * Training data: samples are redrawn from their seed on every start (cheap), their pictures are rendered once
 * and kept on disk as raw bytes.
 */
import { createHash } from 'node:crypto';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { exists, invalid, type JobContext, ProgressCounter, prose, writeFileAtomic } from '@equipoise/core';
import type { WorldKind } from '../world/attributes.js';
import { BIAS } from '../world/bias.js';
import { IMAGE_BYTES, renderImages } from '../world/render.js';
import type { Split, WorldSample } from '../world/sample.js';
import { drawSamples } from '../world/sample.js';

export interface Dataset {
  readonly samples: readonly WorldSample[];
  /** [N, 64, 64, 3]. */
  readonly images: Uint8Array;
}

export interface DatasetOptions {
  readonly seed: number;
  readonly split: Split;
  readonly count: number;
  /** Only this world; by default both, as the bias table mixes them. */
  readonly kind?: WorldKind | undefined;
}

/** Pictures whose bytes identify the drawing code: another drawing, another cache file. */
const PROBES = 32;
const RENDER_CHUNK = 1024;

/** A hash that changes with the seed, the bias table, the drawing code and the captions. */
export async function worldFingerprint(seed: number, split: Split): Promise<string> {
  const samples = drawSamples(seed, split, PROBES);
  const hash = createHash('sha256').update(JSON.stringify(BIAS));
  for (const sample of samples) hash.update(JSON.stringify([sample.caption, sample.labels]));
  return hash
    .update(await renderImages(samples))
    .digest('hex')
    .slice(0, 16);
}

/** Draws the samples and loads their pictures from `folder`, rendering them first if they are not there. */
export async function loadDataset(
  folder: string,
  { seed, split, count, kind }: DatasetOptions,
  context: JobContext = {},
): Promise<Dataset> {
  await mkdir(folder, { recursive: true });
  const samples = drawSamples(seed, split, count, 0, kind === undefined ? {} : { kind });
  const path = join(
    folder,
    `${[split, ...(kind ? [kind] : []), count, await worldFingerprint(seed, split)].join('-')}.rgb`,
  );
  if (!(await exists(path))) await renderToFile(path, split, samples, context);
  const images = new Uint8Array(await readFile(path));
  if (images.length !== count * IMAGE_BYTES) {
    throw invalid(path, `${count * IMAGE_BYTES} bytes`, prose(`${images.length}`), { code: 'corrupt' });
  }
  return { samples, images };
}

async function renderToFile(
  path: string,
  split: Split,
  samples: readonly WorldSample[],
  context: JobContext,
): Promise<void> {
  const progress = new ProgressCounter(`render ${split}`, context, { total: samples.length, unit: 'image' });
  const images = new Uint8Array(samples.length * IMAGE_BYTES);
  for (let start = 0; start < samples.length; start += RENDER_CHUNK) {
    const part = samples.slice(start, start + RENDER_CHUNK);
    images.set(await renderImages(part), start * IMAGE_BYTES);
    progress.advance(part.length);
  }
  await writeFileAtomic(path, images);
}
