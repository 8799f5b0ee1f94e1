/** Options of choosing examples: by what, how many, and real pictures beside them. */
import { join } from 'node:path';
import { invalid, type JobContext, option, prose, z } from '@equipoise/core';
import {
  encoderOf,
  PICTURE_MI,
  type RealImage,
  readImageFolder,
  type Selection,
  scoreRealImages,
} from '@equipoise/mi-tune';
import type { OpenModel } from './model.js';

const choice = { group: 'Choice' };

export const selectionOptions = {
  candidates: option(z.int().min(1).default(50), 'Candidates per prompt.', choice),
  top: option(z.int().min(1).default(1), 'Candidates kept per prompt.', choice),
  select: option(
    z.string().default('mi'),
    'What chooses them: mi (summed while sampling), picture (MI of the finished pictures, as with --picture-mi), random, clip (with --clip), or the name of a --scorer.',
    choice,
  ),
  real: option(z.string().optional(), 'Image folder with metadata.jsonl: real pictures with captions.', {
    placeholder: 'folder',
    ...choice,
  }),
  realFraction: option(
    z.number().min(0).max(1).default(0),
    'Share of the set that is real pictures, those with the highest mutual information.',
    choice,
  ),
};

/** @throws EquipoiseError `invalid` when no scorer of that name was asked for */
export function selectionOf(select: string, seed: number, names: readonly string[]): Selection {
  if (select === 'mi') return { by: 'mi' };
  if (select === 'random') return { by: 'random', seed };
  const name = select === 'picture' ? PICTURE_MI : select;
  if (!names.includes(name)) throw invalid('--select', ['mi', 'random', ...names].join(', '), select);
  return { by: 'score', name };
}

/**
 * Real pictures, scored under the model as it is; undefined when none are wanted.
 *
 * @param examples size of the set they take a share of
 */
export async function realImagesOf(
  { real, realFraction, seed }: { real?: string | undefined; realFraction: number; seed: number },
  { parts, pipeline }: OpenModel,
  examples: number,
  out: string,
  context: JobContext,
): Promise<{ images: readonly RealImage[]; fraction: number } | undefined> {
  if (real === undefined) {
    if (realFraction > 0) throw invalid('--real-fraction', '0 without --real', realFraction);
    return undefined;
  }
  if (realFraction === 0) throw invalid('--real-fraction', 'a share above 0 with --real', realFraction);
  const images = await readImageFolder(real);
  const needed = Math.round(realFraction * examples);
  if (images.length < needed)
    throw invalid(
      '--real',
      `at least ${needed} pictures for the share ${realFraction}`,
      prose(`${images.length}`),
    );
  const encode = encoderOf(pipeline, parts);
  const scored = await scoreRealImages(join(out, 'real'), parts, encode, images, { seed }, context);
  return { images: scored, fraction: realFraction };
}
