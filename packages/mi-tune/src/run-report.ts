/** The report of a MI-TUNE run: what each round chose and learned, and how the models compare. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { EquipoiseError, exists, invalid, Journal, prose, readRunRecord } from '@equipoise/core';
import {
  type Block,
  lineChart,
  type Report,
  type ReportImage,
  type Section,
  tableOf,
} from '@equipoise/report';
import { categoryDifferences, categoryScores, readEvaluation, type StoredEvaluation } from './evaluate.js';
import { readSet } from './example-set.js';
import type { FineTuneLog } from './fine-tune.js';
import { PICTURE_MI } from './picture-mi.js';
import { pictureName } from './pictures.js';
import { PICTURES } from './sweep.js';
import { readSweep, sweepRows } from './sweep-folder.js';
import { TUNE_FILES, type ValidationScores } from './tune-job.js';

/** An evaluation folder and what its model is called. */
export interface NamedEvaluation {
  readonly name: string;
  readonly folder: string;
}

/** Pictures shown of each evaluation, and of each round's set. */
const SHOWN = 12;

/** A score as reports call it. */
function withUnit(score: string): string {
  return score === 'mi' || score === PICTURE_MI ? `${score} (nats)` : score;
}

const mean = (values: readonly number[]): number => values.reduce((sum, x) => sum + x, 0) / values.length;

/**
 * Builds the report of a folder of `mi-tune run` or `mi-tune train`.
 *
 * @param evaluations of models to compare, the base model first
 * @throws EquipoiseError `missing` when the folder holds neither; `conflict` when the evaluations differ in more than the
 * model
 */
export async function runReport(folder: string, evaluations: readonly NamedEvaluation[]): Promise<Report> {
  const record = await readRunRecord(folder);
  if (record?.command !== 'mi-tune run' && record?.command !== 'mi-tune train')
    throw new EquipoiseError('missing', `${folder}: expected the folder of mi-tune run or mi-tune train`);
  const rounds = record.command === 'mi-tune run' ? await roundFolders(folder) : [];
  const sections: Section[] = [];
  if (evaluations.length > 0) sections.push(await alignment(evaluations));
  for (const [i, round] of rounds.entries())
    sections.push({
      title: `Round ${i + 1}`,
      blocks: [...(await choice(round)), ...(await tuning(join(round, 'tune')))],
    });
  if (record.command === 'mi-tune train') sections.push({ title: 'Tuning', blocks: await tuning(folder) });
  const settings = JSON.stringify(record.options, null, 2);
  const last = sections.at(-1);
  if (last !== undefined)
    sections[sections.length - 1] = {
      ...last,
      blocks: [...last.blocks, { kind: 'details', title: 'Settings', text: settings }],
    };
  return {
    title: `MI-TUNE: ${folder}`,
    summary: summary(record.status, rounds.length, evaluations),
    sections,
  };
}

function summary(status: string, rounds: number, evaluations: readonly NamedEvaluation[]): string {
  const what = rounds === 0 ? 'One fine-tuning' : `${rounds} ${rounds === 1 ? 'round' : 'rounds'}`;
  const compared =
    evaluations.length === 0 ? '' : ` ${evaluations.length} models are compared on held-out prompts.`;
  return `${what}; the run is ${status}.${compared}`;
}

async function roundFolders(folder: string): Promise<string[]> {
  const found: string[] = [];
  for (let round = 1; await exists(join(folder, `round-${round}`)); round++)
    found.push(join(folder, `round-${round}`));
  return found;
}

/** Scores per category of all models, and what changed against the first. */
async function alignment(evaluations: readonly NamedEvaluation[]): Promise<Section> {
  const stored: (StoredEvaluation & { name: string })[] = [];
  for (const { name, folder } of evaluations) {
    if (stored.some((earlier) => earlier.name === name))
      throw invalid('evaluations', 'each name once', prose(`"${name}" twice`));
    stored.push({ ...(await readEvaluation(folder)), name });
  }
  const [base, ...others] = stored as [(typeof stored)[number], ...typeof stored];
  for (const other of others) requireComparable(base, other);
  const having = (score: string) => stored.filter(({ scores }) => scores.includes(score));
  const blocks: Block[] = [...new Set(stored.flatMap(({ scores }) => scores))].map((score) => ({
    kind: 'table',
    table: tableOf(
      `${withUnit(score)}, mean over pictures`,
      having(score).flatMap(({ name, rows, prompts }) =>
        categoryScores(rows, prompts, [score]).map(({ category, estimate }) => ({
          model: name,
          category,
          value: estimate.value,
          '95 % low': estimate.low,
          '95 % high': estimate.high,
          pictures: estimate.count,
        })),
      ),
      'Intervals by the bootstrap over prompts.',
    ),
  }));
  for (const other of others)
    blocks.push({
      kind: 'table',
      table: tableOf(
        `${other.name} minus ${base.name}`,
        base.scores
          .filter((score) => other.scores.includes(score))
          .flatMap((score) =>
            categoryDifferences(other.rows, base.rows, base.prompts, score).map(({ category, estimate }) => ({
              score: withUnit(score),
              category,
              difference: estimate.value,
              '95 % low': estimate.low,
              '95 % high': estimate.high,
            })),
          ),
        'Same prompts, same noise: paired.',
      ),
    });
  for (const one of stored) {
    const images = await evaluationPictures(one);
    if (images.length > 0) blocks.push({ kind: 'images', title: one.name, images });
  }
  return { title: 'Alignment', blocks };
}

/** Differences are of equal prompts and noise; other evaluations would be paired by number alone. */
function requireComparable(base: StoredEvaluation, other: StoredEvaluation): void {
  const differing = [
    ...(isDeepStrictEqual(base.prompts, other.prompts) ? [] : ['prompts or categories']),
    ...(base.rows.length === other.rows.length ? [] : ['numbers of pictures']),
    ...(isDeepStrictEqual(base.sampling, other.sampling) ? [] : ['seeds or sampling settings']),
  ];
  if (differing.length > 0)
    throw invalid(
      `${base.folder} and ${other.folder}`,
      'evaluations that differ in the model alone',
      prose(`other ${differing.join(', ')}`),
      { code: 'conflict' },
    );
}

/** The first picture of prompts spread evenly over the list. */
async function evaluationPictures({ folder, prompts }: StoredEvaluation): Promise<ReportImage[]> {
  const count = Math.min(SHOWN, prompts.length);
  const images: ReportImage[] = [];
  for (let i = 0; i < count; i++) {
    const at = Math.floor((i * prompts.length) / count);
    const { prompt } = prompts[at] as StoredEvaluation['prompts'][number];
    const file = join(folder, PICTURES, pictureName(at, prompt, 0));
    if (await exists(file)) images.push({ png: await readFile(file), caption: prompt });
  }
  return images;
}

/** What a round's sweep found and its set took. */
async function choice(round: string): Promise<Block[]> {
  const set = await readSet(join(round, 'set')).catch(() => undefined);
  if (set === undefined) return [{ kind: 'text', text: 'The set is not built yet.' }];
  const generated = set.examples.filter(({ candidate }) => candidate !== null);
  const rows: Record<string, string | number>[] = [];
  const sweepFolder = join(round, 'sweep');
  if (await exists(sweepFolder)) {
    const all = sweepRows(await readSweep(sweepFolder));
    rows.push({ candidates: 'all', count: all.length, 'mean MI (nats)': mean(all.map(({ mi }) => mi)) });
  }
  if (generated.length > 0)
    rows.push({
      candidates: 'chosen',
      count: generated.length,
      'mean MI (nats)': mean(generated.map(({ mi }) => mi)),
    });
  const images: ReportImage[] = [];
  for (const { folder, prompt } of set.examples.slice(0, SHOWN)) {
    const file = join(round, 'set', folder, 'image.png');
    if (await exists(file)) images.push({ png: await readFile(file), caption: prompt });
  }
  const real = set.examples.length - generated.length;
  return [
    {
      kind: 'table',
      table: tableOf(
        'Choice of candidates',
        rows,
        `${set.examples.length} examples, ${real} of them real pictures.`,
      ),
    },
    ...(images.length > 0 ? [{ kind: 'images', title: 'Examples', images } as const] : []),
  ];
}

async function tuning(folder: string): Promise<Block[]> {
  const log = [...(await Journal.read<FineTuneLog>(join(folder, TUNE_FILES.log))).values()];
  if (log.length === 0) return [{ kind: 'text', text: 'No update has been made yet.' }];
  const blocks: Block[] = [
    {
      kind: 'plot',
      title: 'Loss',
      svg: lineChart(
        log.map(({ step, loss }) => ({ x: step, y: loss, series: 'loss' })),
        { x: 'update', y: 'loss' },
      ),
    },
  ];
  const validations = [
    ...(await Journal.read<ValidationScores>(join(folder, TUNE_FILES.validations))).values(),
  ].sort((a, b) => a.step - b.step);
  if (validations.length === 0) return blocks;
  const names = Object.keys(validations[0]?.scores ?? {});
  blocks.push({
    kind: 'table',
    table: tableOf(
      'Validation',
      validations.map(({ step, scores }) => ({ update: step, ...scores })),
      'Means over the validation pictures; update 0 is the model before tuning.',
    ),
  });
  for (const name of names)
    blocks.push({
      kind: 'plot',
      title: `Validation: ${withUnit(name)}`,
      svg: lineChart(
        validations.map(({ step, scores }) => ({ x: step, y: scores[name] as number, series: name })),
        { x: 'update', y: withUnit(name) },
      ),
    });
  return blocks;
}
