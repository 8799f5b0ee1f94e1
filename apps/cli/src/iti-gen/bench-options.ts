/** Options of the commands that experiment, and the bench they stand for. */
import { defineOptions, invalid, type JobContext, option, prose, z } from '@equipoise/core';
import { type Bench, JOINS, TRAIN_DEFAULTS } from '@equipoise/iti-gen';
import { SHIPPED_WEIGHTS } from '@equipoise/tiny-world';
import { engineOptions } from '../engine-options.js';
import { openFolderBench } from './folder-bench.js';
import { openTinyWorldBench } from './tiny-world-bench.js';

const whole = z.int().min(1);
const folder = { placeholder: 'folder' } as const;
const learning = { group: 'Learning' } as const;
const own = { group: 'A model of your own' } as const;

export const benchOptions = defineOptions(
  'bench',
  {
    out: option(z.string(), 'Run folder; what is done in it already is not done again.', folder),
    prompt: option(z.string().default('a headshot of a person'), 'Prompt whose images are to be inclusive.'),
    seeds: option(z.array(z.int().min(0)).min(1).default([0, 1, 2]), 'Each experiment runs once per seed.'),
    images: option(whole.default(240), 'Images of each method, set of attributes and seed.', {
      group: 'Size',
    }),
    steps: option(whole.max(1000).default(20), 'Denoising steps.', { group: 'Size' }),
    batch: option(whole.default(32), 'Images sampled together.', { group: 'Size' }),
    guidance: option(
      z.number().min(0).max(100).optional(),
      'Guidance scale. Default 6; 3.5 on the embedded model.',
      { group: 'Size' },
    ),
    references: option(
      whole.optional(),
      'Reference images per category. Default 25; 100 on the embedded model.',
      learning,
    ),
    tokenLength: option(
      whole.optional(),
      'Tokens per category. Default 3; 1 on the embedded model.',
      learning,
    ),
    join: option(
      z.enum(JOINS).optional(),
      'Tokens of several attributes are summed or stand side by side. Default sum; concat on the embedded model.',
      learning,
    ),
    epochs: option(whole.optional(), 'Epochs of learning. Default 30; 8 on the embedded model.', learning),
    updates: option(
      whole.optional(),
      'Updates of each attribute per epoch. Default 5; 20 on the embedded model.',
      learning,
    ),
    consistency: option(
      z.number().min(-1).max(1).optional(),
      'Similarity to the plain prompt (lambda). Default 0.8; 0.6 on the embedded model.',
      learning,
    ),
    strength: option(
      z.number().min(0).max(100).optional(),
      'Least shift of texts in shifts of the images. Default 0; 1.5 on the embedded model.',
      learning,
    ),
    learningRate: option(z.number().gt(0).default(TRAIN_DEFAULTS.learningRate), 'Learning rate.', learning),
    model: option(z.string().optional(), 'Pipeline folder. Default: the embedded model and its judges.', {
      ...own,
      ...folder,
    }),
    clip: option(z.string().optional(), 'Folder of the CLIP model whose text tower it uses.', {
      ...own,
      ...folder,
    }),
    data: option(z.string().optional(), 'Reference images, as for iti-gen train.', {
      ...own,
      placeholder: 'folder|file',
    }),
    classes: option(
      z.string().optional(),
      'Texts of the categories for zero-shot classification (JSON or YAML).',
      {
        ...own,
        placeholder: 'file',
      },
    ),
    judgeClip: option(z.string().optional(), 'Another CLIP model to classify with (published: ViT-B/32).', {
      ...own,
      ...folder,
    }),
    words: option(z.string().optional(), 'Words of the categories for hard prompts (JSON or YAML).', {
      ...own,
      placeholder: 'file',
    }),
    inception: option(z.string().optional(), "FID's Inception weights (safetensors).", {
      ...own,
      placeholder: 'file',
    }),
    realImages: option(z.string().optional(), 'Folder of real images for FID.', { ...own, ...folder }),
    weights: option(z.string().default(SHIPPED_WEIGHTS), 'Weights of the embedded model.', {
      ...folder,
      hidden: true,
    }),
    ...engineOptions,
  },
  (options, name) => {
    const needed = ['clip', 'data', 'classes'] as const;
    const extra = ['judgeClip', 'words', 'inception', 'realImages'] as const;
    if (options.model === undefined) {
      const stray = [...needed, ...extra].find((key) => options[key] !== undefined);
      if (stray !== undefined) throw invalid(name(stray), `${name('model')} beside it`, prose('none'));
      return;
    }
    const missing = needed.find((key) => options[key] === undefined);
    if (missing !== undefined) throw invalid(name(missing), `a value beside ${name('model')}`, prose('none'));
    if ((options.inception === undefined) !== (options.realImages === undefined))
      throw invalid(
        name('inception'),
        `it and ${name('realImages')} together`,
        prose('one without the other'),
      );
  },
);

export type BenchOptions = ReturnType<typeof benchOptions.parse>;

export async function openBench(options: BenchOptions, context: JobContext): Promise<Bench> {
  const { engine, precision, model, clip, data, classes } = options;
  const settings = { engine, precision };
  if (model === undefined || clip === undefined || data === undefined || classes === undefined)
    return openTinyWorldBench(options.weights, settings, context);
  return openFolderBench({ ...options, model, clip, data, classes }, settings, context);
}

/** Names of sets: "skinTone+eyeglasses" are learned together. */
export function parseSets(sets: readonly string[], name: string): string[][] {
  const parsed = sets.map((text) => text.split('+').map((part) => part.trim()));
  for (const [i, names] of parsed.entries()) {
    if (names.some((own) => own === '')) throw invalid(name, 'attributes joined by +', sets[i]);
    const twice = names.find((own, k) => names.indexOf(own) !== k);
    if (twice !== undefined) throw invalid(name, 'each attribute once in a set', sets[i]);
  }
  const keys = parsed.map((names) => names.join('+'));
  const repeated = keys.find((key, i) => keys.indexOf(key) !== i);
  if (repeated !== undefined) throw invalid(name, 'each set once', prose(`"${repeated}" twice`));
  return parsed;
}
