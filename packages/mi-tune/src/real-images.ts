/** Real pictures with captions: scored by mutual information, the best of them mixed into a fine-tuning set. */
import fs from 'node:fs/promises';
import path from 'node:path';
import {
  EquipoiseError,
  exists,
  invalid,
  type JobContext,
  Journal,
  PhiloxSequence,
  ProgressCounter,
  prose,
  Run,
  sha256File,
  sha256Json,
  streamId,
} from '@equipoise/core';
import { decodeImage } from '@equipoise/models';
import { type EstimateOptions, estimateMi } from './estimate.js';
import type { DiffusionParts } from './parts.js';
import type { Encode } from './pictures.js';
import { UNKNOWN_VAE } from './sweep-folder.js';

/** A picture file and its caption. */
export interface CaptionedImage {
  readonly file: string;
  readonly prompt: string;
  /** SHA-256 of the file. */
  readonly hash: string;
}

/** A captioned picture with its score. */
export interface RealImage extends CaptionedImage {
  /** Estimated point-wise MI with the caption, nats. */
  readonly mi: number;
}

/**
 * Reads an image folder in the Hub's layout: `metadata.jsonl` with a line `{"file_name": ..., "text": ...}` per picture.
 *
 * @throws EquipoiseError `missing` or `corrupt`, naming the line
 */
export async function readImageFolder(folder: string): Promise<CaptionedImage[]> {
  const file = path.join(folder, 'metadata.jsonl');
  const text = await fs.readFile(file, 'utf8').catch((cause: unknown) => {
    throw new EquipoiseError('missing', `${file}: expected captions of pictures`, { cause });
  });
  const images: CaptionedImage[] = [];
  for (const [i, line] of text
    .replace(/^\uFEFF/, '')
    .split(/\r\n|\r|\n/)
    .entries()) {
    if (line.trim() === '') continue;
    const name = `${file}: line ${i + 1}`;
    let entry: { file_name?: unknown; text?: unknown } | null;
    try {
      entry = JSON.parse(line) as typeof entry;
    } catch (cause) {
      throw new EquipoiseError('corrupt', `${name} is not valid JSON`, { cause });
    }
    const { file_name: fileName, text: prompt } = entry ?? {};
    if (typeof fileName !== 'string' || typeof prompt !== 'string' || prompt.trim() === '')
      throw invalid(name, 'file_name and text', entry, { code: 'corrupt' });
    const image = path.resolve(folder, fileName);
    if (!image.startsWith(path.resolve(folder) + path.sep))
      throw invalid(`${name}: file_name`, 'a file in the folder', fileName, { code: 'unsafe' });
    if (!(await exists(image)))
      throw new EquipoiseError('missing', `${name}: expected the picture ${fileName}`);
    images.push({ file: image, prompt: prompt.trim(), hash: await sha256File(image) });
  }
  if (images.length === 0) throw invalid(file, 'at least one picture', prose('none'));
  return images;
}

/** Estimates MI of every picture with its caption; a killed run goes on. */
export async function scoreRealImages(
  folder: string,
  parts: DiffusionParts,
  encode: Encode,
  images: readonly CaptionedImage[],
  options: EstimateOptions,
  context: JobContext = {},
): Promise<RealImage[]> {
  const run = await Run.open(folder, {
    command: 'mi real images',
    options: { ...options },
    seeds: { estimate: options.seed },
    inputs: {
      model: parts.hash,
      vae: parts.vaeHash,
      images: sha256Json(images.map(({ hash, prompt }) => [hash, prompt])),
    },
    upgrade: (earlier) => ({ ...earlier, inputs: { vae: UNKNOWN_VAE, ...earlier.inputs } }),
  });
  try {
    const journal = await Journal.open<number>(run.path('scores.jsonl'));
    const progress = new ProgressCounter('real images', context, { total: images.length, unit: 'image' });
    const scored: RealImage[] = [];
    try {
      for (const [i, image] of images.entries()) {
        const mi = await journal.once(String(i), async () => {
          const latents = encode(await decodeImage(image.file), image.file);
          try {
            const [row] = await estimateMi(parts, latents, [image.prompt], options, {
              signal: context.signal,
            });
            return row?.[0]?.mi as number;
          } finally {
            latents.dispose();
          }
        });
        scored.push({ ...image, mi });
        progress.advance();
      }
    } finally {
      await journal.close();
    }
    await run.finish();
    return scored;
  } catch (error) {
    await run.fail(error);
    throw error;
  }
}

/**
 * Replaces a share of the generated examples by the real pictures with the highest MI. Which generated ones stay is drawn
 * by seed, so that no kind of prompt is preferred.
 *
 * @param fraction of the set, from 0 to 1
 */
export function mixRealImages<T>(
  chosen: readonly T[],
  real: readonly RealImage[],
  fraction: number,
  seed: number,
): { chosen: T[]; real: RealImage[] } {
  if (!(fraction >= 0 && fraction <= 1)) throw invalid('real fraction', 'a number from 0 to 1', fraction);
  const count = Math.round(fraction * chosen.length);
  if (count > real.length)
    throw invalid(
      'real images',
      `at least ${count}, a share ${fraction} of the set`,
      prose(`${real.length}`),
    );
  const order = new PhiloxSequence(seed, streamId('mi-tune', 'kept beside real')).shuffle(
    chosen.map((_, i) => i),
  );
  const kept = new Set(order.slice(count));
  const best = [...real].sort((a, b) => b.mi - a.mi || (a.hash < b.hash ? -1 : 1)).slice(0, count);
  return { chosen: chosen.filter((_, i) => kept.has(i)), real: best };
}
