/** Alignment of a model's pictures with held-out prompts, per category, with confidence intervals. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  EquipoiseError,
  invalid,
  type JobContext,
  PhiloxSequence,
  parseJson,
  streamId,
  writeJsonAtomic,
} from '@equipoise/core';
import { type Estimate, quantile } from '@equipoise/metrics';
import type { SamplingOptions } from './candidates.js';
import type { DiffusionParts } from './parts.js';
import { type PictureScores, sweep } from './sweep.js';
import { readSweep, requireComplete, rowsByPrompt, type SweepRow, sweepRows } from './sweep-folder.js';

export interface EvaluationPrompt {
  readonly prompt: string;
  readonly category: string;
}

export interface EvaluationJob {
  /** Run folder: the pictures in `pictures/`, their scores as of a sweep. */
  readonly folder: string;
  readonly parts: DiffusionParts;
  /** Hash of the adapter on the model; '' for none. */
  readonly adapter: string;
  readonly prompts: readonly EvaluationPrompt[];
  /** Pictures per prompt; picture i of every prompt starts from seed + i. */
  readonly images: number;
  readonly sampling: SamplingOptions;
  readonly batch: number;
  readonly pictures: PictureScores;
}

/** A score's mean over one category, or over all: `category` is then 'mean', every category weighing the same. */
export interface CategoryScore {
  readonly category: string;
  readonly score: string;
  readonly estimate: Estimate;
}

const CATEGORIES = 'categories.json';
/** Stands for all categories, each weighing the same. */
const MEAN = 'mean';

/**
 * Draws and scores; a killed evaluation goes on. The folder is that of a sweep, with the categories beside it. They come
 * last: a folder that is refused because it holds another evaluation keeps its own.
 */
export async function evaluate(job: EvaluationJob, context: JobContext = {}): Promise<SweepRow[]> {
  const { prompts, images, sampling, ...rest } = job;
  if (prompts.some(({ category }) => category === MEAN))
    throw invalid('category', `a name other than "${MEAN}", the mean over all`, MEAN);
  const rows = await sweep(
    {
      ...rest,
      options: {
        ...sampling,
        prompts: prompts.map(({ prompt }) => prompt),
        candidates: images,
        batch: job.batch,
      },
    },
    context,
  );
  await writeJsonAtomic(join(job.folder, CATEGORIES), {
    categories: prompts.map(({ category }) => category),
  });
  return rows;
}

/** A finished evaluation, from its folder. */
export interface StoredEvaluation {
  readonly folder: string;
  readonly prompts: readonly EvaluationPrompt[];
  readonly rows: readonly SweepRow[];
  readonly sampling: SamplingOptions;
  /** Names of the scores, `mi` first. */
  readonly scores: readonly string[];
}

/** @throws EquipoiseError `missing` or `corrupt` when the folder holds no complete evaluation */
export async function readEvaluation(folder: string): Promise<StoredEvaluation> {
  const file = join(folder, CATEGORIES);
  const text = await readFile(file, 'utf8').catch((cause: unknown) => {
    throw new EquipoiseError('missing', `${folder}: expected an evaluation (${CATEGORIES})`, { cause });
  });
  const stored = await readSweep(folder);
  requireComplete(stored);
  const { categories } = (parseJson(text, file) ?? {}) as { categories?: string[] };
  if (!Array.isArray(categories) || categories.length !== stored.prompts.length)
    throw invalid(file, `${stored.prompts.length} categories, one for each prompt`, categories, {
      code: 'corrupt',
    });
  const prompts = stored.prompts.map((prompt, i) => ({ prompt, category: categories[i] as string }));
  const { sampling, plan } = stored;
  return { folder, prompts, rows: sweepRows(stored), sampling, scores: ['mi', ...plan.scorers] };
}

/** Values of one prompt's pictures. */
type PromptValues = readonly number[];

const meanOf = (values: readonly number[]): number => values.reduce((sum, x) => sum + x, 0) / values.length;

/**
 * Mean of each score per category and over the categories, with 95 % intervals by the bootstrap over prompts: pictures of
 * one prompt are not independent, so prompts are resampled, each with all of its pictures.
 *
 * @param scores names of scores; `mi` is one
 */
export function categoryScores(
  rows: readonly SweepRow[],
  prompts: readonly EvaluationPrompt[],
  scores: readonly string[],
  seed = 0,
): CategoryScore[] {
  return scores.flatMap((score) => {
    const groups = promptValues(rows, prompts, (row) =>
      score === 'mi' ? row.mi : (row.scores[score] as number),
    );
    const all = [...groups].map(([category, values]) => ({
      category,
      score,
      estimate: bootstrapGroups([values], seed),
    }));
    return [...all, { category: MEAN, score, estimate: bootstrapGroups([...groups.values()], seed) }];
  });
}

/** Differences of two models on the same prompts and noise, after minus before: paired, so with narrower intervals. */
export function categoryDifferences(
  after: readonly SweepRow[],
  before: readonly SweepRow[],
  prompts: readonly EvaluationPrompt[],
  score: string,
  seed = 0,
): CategoryScore[] {
  const key = ({ promptIndex, candidate }: SweepRow): string => `${promptIndex} ${candidate}`;
  const value = (row: SweepRow): number => (score === 'mi' ? row.mi : (row.scores[score] as number));
  const base = new Map(before.map((row) => [key(row), value(row)]));
  const paired = after.filter((row) => base.has(key(row)));
  const groups = promptValues(paired, prompts, (row) => value(row) - (base.get(key(row)) as number));
  return [
    ...[...groups].map(([category, values]) => ({
      category,
      score,
      estimate: bootstrapGroups([values], seed),
    })),
    { category: MEAN, score, estimate: bootstrapGroups([...groups.values()], seed) },
  ];
}

/** values[category][prompt][picture] */
function promptValues(
  rows: readonly SweepRow[],
  prompts: readonly EvaluationPrompt[],
  value: (row: SweepRow) => number,
): Map<string, PromptValues[]> {
  const groups = new Map<string, PromptValues[]>();
  for (const [index, own] of [...rowsByPrompt(rows)].sort(([a], [b]) => a - b)) {
    const { category } = prompts[index] as EvaluationPrompt;
    groups.set(category, [...(groups.get(category) ?? []), own.map(value)]);
  }
  return groups;
}

/** The mean over groups of the means over their prompts; prompts are resampled within each group. */
export function bootstrapGroups(
  groups: readonly (readonly PromptValues[])[],
  seed: number,
  resamples = 2000,
): Estimate {
  const means = groups.map((group) => group.map(meanOf));
  const random = new PhiloxSequence(seed, streamId('mi-tune', 'bootstrap'));
  const draws = Float64Array.from({ length: resamples }, () =>
    meanOf(means.map((group) => meanOf(group.map(() => group[random.int(group.length)] as number)))),
  ).sort();
  const value = meanOf(means.map(meanOf));
  const centre = meanOf([...draws]);
  const variance = draws.reduce((sum, x) => sum + (x - centre) ** 2, 0) / (resamples - 1);
  return {
    value,
    low: quantile(draws, 0.025),
    high: quantile(draws, 0.975),
    standardError: Math.sqrt(variance),
    count: groups.reduce((sum, group) => sum + group.reduce((n, values) => n + values.length, 0), 0),
  };
}
