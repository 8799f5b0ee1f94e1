/** The images of one `equipoise generate`: which there will be, and making them batch by batch. */
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import {
  describe,
  EquipoiseError,
  exists,
  invalid,
  makeFolder,
  Pace,
  ProgressCounter,
  prose,
  writeFileAtomic,
} from '@equipoise/core';
import {
  encodePng,
  type Generated,
  imageSeeds,
  type SamplingOptions,
  type TextToImagePipeline,
} from '@equipoise/diffusion';
import type { TruncationWarning } from '@equipoise/models';
import type { CommandContext } from '../command.js';
import type { PromptRows } from './generate-inputs.js';

export interface PlannedImage {
  readonly file: string;
  readonly row: number;
  readonly seed: number;
}

/** A prompt as part of a file name: letters, digits and dashes. */
function slug(text: string): string {
  return text
    .normalize('NFKD')
    .replace(/\p{M}+/gu, '')
    .toLowerCase()
    .replace(/[^\p{L}\p{N}]+/gu, '-')
    .replace(/^-+|-+$/g, '')
    .slice(0, 48)
    .replace(/-+$/, '');
}

/**
 * Prompt by prompt, as many images of each as asked for. Seeds count through all of them, whatever the batch.
 *
 * @throws EquipoiseError when the number of seeds given is another
 */
export function planImages(
  out: string,
  rows: PromptRows,
  { seed, seeds, imagesPerPrompt }: SamplingOptions,
): PlannedImage[] {
  const own = imageSeeds(seed, seeds, rows.count * imagesPerPrompt);
  return own.map((imageSeed, i) => {
    const row = Math.floor(i / imagesPerPrompt);
    const number = (value: number): string => String(value).padStart(5, '0');
    const name = [number(row), slug(rows.label(row)), number(i % imagesPerPrompt)]
      .filter((part) => part !== '')
      .join('-');
    return { file: join(out, `${name}.png`), row, seed: imageSeed };
  });
}

/** Makes the folder, and refuses to replace files unless told to. */
export async function prepareOut(
  out: string,
  images: readonly PlannedImage[],
  force: boolean,
): Promise<void> {
  const info = await stat(out).catch(() => undefined);
  if (info !== undefined && !info.isDirectory())
    throw invalid('--out', 'a folder', prose(`${out}, which is a file`));
  await makeFolder(out);
  if (force) return;
  const present = await Promise.all(images.map(({ file }) => exists(file)));
  const first = images[present.indexOf(true)];
  if (first === undefined) return;
  const count = present.filter(Boolean).length;
  throw new EquipoiseError(
    'conflict',
    `${first.file}: expected a new file, got one that exists (${count} of ${images.length} images do)`,
    {
      hints: ['Give --force to replace them, or another --out.'],
    },
  );
}

export interface GenerateJob {
  readonly pipeline: TextToImagePipeline;
  readonly rows: PromptRows;
  readonly images: readonly PlannedImage[];
  readonly sampling: SamplingOptions;
  /** Images sampled together. */
  readonly batch: number;
  /** Embedded in every PNG beside the pipeline's own settings. */
  readonly settings: Readonly<Record<string, unknown>>;
}

/**
 * Makes the images and prints their paths as they are written.
 *
 * @throws EquipoiseError `cancelled` between steps; images written so far stay, whole
 */
export async function makeImages(job: GenerateJob, context: CommandContext): Promise<void> {
  const { images, sampling, batch } = job;
  const progress = new ProgressCounter('images', context, { total: images.length, unit: 'image' });
  // PyTorch's one generator runs through the whole call: its numbers depend on everything drawn before.
  const whole = sampling.rng === 'torch' && sampling.seeds === undefined;
  const size = whole ? images.length : batch;
  const pace = new Pace(images.length, 'image');
  for (let start = 0; start < images.length; start += size) {
    const part = images.slice(start, start + size);
    const result = await generate(job, part, whole, context);
    result.latents.dispose();
    const live = pace.advance(part.length);
    for (const [i, image] of result.images.entries()) {
      const { file, row } = part[i] as PlannedImage;
      const settings = {
        ...result.settings[i],
        index: start + i,
        ...job.rows.describe(row),
        ...job.settings,
      };
      await writeFileAtomic(file, await encodePng(image, settings));
      context.print(file);
      progress.advance(1, live);
    }
  }
}

async function generate(
  { pipeline, rows, sampling, batch }: GenerateJob,
  part: readonly PlannedImage[],
  whole: boolean,
  context: CommandContext,
): Promise<Generated> {
  const { seeds: _seeds, imagesPerPrompt, ...rest } = sampling;
  const call = whole
    ? {
        rows: Array.from({ length: rows.count }, (_, row) => row),
        options: { imagesPerPrompt, unetBatch: sampling.unetBatch ?? batch },
      }
    : {
        rows: part.map(({ row }) => row),
        options: { imagesPerPrompt: 1, seeds: part.map(({ seed }) => seed) },
      };
  const { inputs, dispose } = rows.inputs(call.rows);
  const warned = new Set<string>();
  const onWarning = ({ tokens, kept, removed }: TruncationWarning): void => {
    if (!warned.has(removed))
      context.note(`a prompt of ${tokens} tokens was cut to ${kept}; left out: ${describe(removed)}`);
    warned.add(removed);
  };
  try {
    return await pipeline.generate(
      inputs,
      { ...rest, ...call.options },
      { signal: context.signal, onProgress: context.onProgress, onWarning },
    );
  } finally {
    dispose();
  }
}
