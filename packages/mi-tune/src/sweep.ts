/**
 * A sweep scores M candidates of each prompt. Its unit of work is a batch of candidates, fixed by the settings: batch b
 * holds candidates b*B .. (b+1)*B-1 of the list (prompt 0 candidate 0, prompt 0 candidate 1, ...). A batch is journaled
 * when it is done; whatever kills the process, the next start repeats at most the batch that was under way, with the same
 * numbers, and makes again what was damaged on the disk. Shard i of n owns the batches b with b mod n = i.
 */
import { join } from 'node:path';
import { getPrecision } from '@equipoise/backend';
import {
  EquipoiseError,
  invalid,
  type JobContext,
  Journal,
  Pace,
  ProgressCounter,
  prose,
  Run,
  type RunSpec,
  sha256Json,
} from '@equipoise/core';
import type { RgbImage } from '@equipoise/models';
import * as tf from '@tensorflow/tfjs-core';
import { type CandidateRequest, type SamplingOptions, sampleCandidates } from './candidates.js';
import type { DiffusionParts } from './parts.js';
import { type Decode, writePicture } from './pictures.js';
import { allSavings, FirstPredictions, type Savings } from './savings.js';
import type { AlignmentScorer } from './scorer.js';
import { exportScores } from './scores-table.js';
import {
  batchCheck,
  batchNumbers,
  batchUnits,
  isBatch,
  JOURNAL,
  rowsOf,
  type Shard,
  type StoredBatch,
  type StoredRow,
  SWEEP_COMMAND,
  type SweepPlan,
  type SweepRow,
  shardText,
  upgradeSweep,
  WHOLE,
  writePrompts,
} from './sweep-folder.js';

export interface SweepOptions extends SamplingOptions {
  readonly prompts: readonly string[];
  /** M: candidates per prompt. */
  readonly candidates: number;
  /** Candidates that are sampled together, across prompts. */
  readonly batch: number;
}

/** Scores of finished pictures, recorded beside MI; all candidates are then made to the end. */
export interface PictureScores {
  readonly scorers: readonly AlignmentScorer[];
  readonly decode: Decode;
  /** Also keep the pictures, as PNG files under `pictures/`. Default false. */
  readonly keep?: boolean;
}

export interface SweepJob {
  readonly folder: string;
  readonly parts: DiffusionParts;
  readonly options: SweepOptions;
  /** Hash of the adapter on the model; '' for none. */
  readonly adapter?: string;
  /** Default: all batches. */
  readonly shard?: Shard;
  /** Exact savings; default all. They change no score, so that a sweep may go on with others. */
  readonly savings?: Savings;
  readonly pictures?: PictureScores | undefined;
  /** Whether `scores.parquet` is written at the end. Default true. */
  readonly table?: boolean;
  /** Told what was found damaged and is made again. */
  readonly onDamage?: (message: string) => void;
}

/** Folder of kept pictures, below the sweep's. */
export const PICTURES = 'pictures';

const RESERVED = ['prompt', 'prompt_index', 'candidate', 'seed', 'mi', 'model', 'adapter', 'options'];

function checkJob({ options, pictures }: SweepJob, shard: Shard): void {
  const { prompts, candidates, batch, steps, seed } = options;
  for (const [name, value] of Object.entries({ candidates, batch, steps })) {
    if (!Number.isInteger(value) || value < 1) throw invalid(name, 'a positive whole number', value);
  }
  const last = Number.MAX_SAFE_INTEGER - candidates;
  if (!(Number.isInteger(seed) && seed >= 0 && seed <= last))
    throw invalid('seed', `a whole number from 0 to ${last}, so that each candidate has one`, seed);
  if (prompts.length === 0) throw invalid('prompts', 'at least one prompt', prompts);
  const empty = prompts.findIndex((prompt) => prompt.trim() === '');
  if (empty >= 0) throw invalid(`prompts[${empty}]`, 'a text', prompts[empty]);
  const seen = new Set<string>();
  for (const prompt of prompts) {
    if (seen.has(prompt)) throw invalid('prompts', 'each prompt once', prose(`"${prompt}" twice`));
    seen.add(prompt);
  }
  const { index, count } = shard;
  if (!(Number.isInteger(count) && count >= 1 && Number.isInteger(index) && index >= 0 && index < count)) {
    throw invalid('shard', 'an index from 0 to count - 1', prose(`${index} of ${count}`));
  }
  requireScorerNames((pictures?.scorers ?? []).map(({ name }) => name));
}

/**
 * Refuses names that cannot be columns of a sweep's table.
 *
 * @param option what the names were given as
 */
export function requireScorerNames(names: readonly string[], option = 'scorers'): void {
  for (const [i, name] of names.entries()) {
    if (!/^[a-z][a-z0-9_]*$/.test(name))
      throw invalid(option, 'a name of small letters, digits and _, a letter first', name);
    if (RESERVED.includes(name))
      throw invalid(option, `a name other than the table's own columns (${RESERVED.join(', ')})`, name);
    if (names.indexOf(name) !== i) throw invalid(option, 'each name once', prose(`"${name}" twice`));
  }
}

/** What identifies a sweep; `mi merge` writes the same for the whole. */
export function sweepSpec({ parts, options, adapter = '', pictures }: SweepJob, shard: Shard): RunSpec {
  const { prompts, ...settings } = options;
  const scorers = pictures?.scorers ?? [];
  return {
    command: SWEEP_COMMAND,
    options: {
      ...settings,
      shard: shardText(shard),
      scorers: scorers.map(({ name }) => name),
      pictures: pictures?.keep === true,
      sampler: parts.scheduler.className,
      engine: tf.getBackend(),
      precision: getPrecision(),
    },
    upgrade: (earlier) => upgradeSweep(earlier, parts.scheduler.className),
    seeds: { sweep: options.seed },
    inputs: {
      model: parts.hash,
      ...(pictures !== undefined && { vae: parts.vaeHash }),
      adapter,
      prompts: sha256Json(prompts),
      ...Object.fromEntries(scorers.map(({ name, hash }) => [`scorer ${name}`, hash])),
    },
  };
}

/**
 * Runs what is missing of a sweep, or of one shard of it, exports the scores as Parquet and returns the rows in order.
 *
 * @throws EquipoiseError `conflict` for a folder of another sweep, `busy` for one in use, `io` when the disk is full: what
 * is done stays done
 */
export async function sweep(job: SweepJob, context: JobContext = {}): Promise<SweepRow[]> {
  const { folder, options, shard = WHOLE } = job;
  checkJob(job, shard);
  const spec = sweepSpec(job, shard);
  const plan: SweepPlan = {
    prompts: options.prompts.length,
    candidates: options.candidates,
    batch: options.batch,
    shard,
    scorers: spec.options.scorers as string[],
  };
  const run = await Run.open(folder, spec);
  try {
    await writePrompts(run.folder, options.prompts);
    const journal = await Journal.open<StoredBatch>(run.path(JOURNAL), {
      accept: (key, value) => isBatch(plan, key, value),
    });
    if (journal.dropped > 0)
      job.onDamage?.(`${journal.path}: ${journal.dropped} damaged lines; their batches are made again`);
    let batches: StoredBatch[];
    try {
      batches = await run.time('batches', () => runBatches(job, plan, journal, context));
    } finally {
      await journal.close();
    }
    if (job.table !== false) await run.time('export', () => exportScores(run.folder));
    await run.finish();
    return rowsOf(batches, options.prompts, plan.scorers);
  } catch (error) {
    await run.fail(error);
    throw error;
  }
}

async function runBatches(
  job: SweepJob,
  plan: SweepPlan,
  journal: Journal<StoredBatch>,
  context: JobContext,
): Promise<StoredBatch[]> {
  const numbers = batchNumbers(plan);
  const sizes = new Map(numbers.map((b) => [b, batchUnits(plan, b).length]));
  const size = (some: readonly number[]): number => some.reduce((sum, b) => sum + (sizes.get(b) ?? 0), 0);
  const progress = new ProgressCounter(SWEEP_COMMAND, context, { total: size(numbers), unit: 'pair' });
  const found = numbers.filter((b) => journal.has(String(b)));
  if (found.length > 0) progress.advance(size(found));
  const pace = new Pace(size(numbers) - size(found), 'pair');
  const { parts, options, savings = allSavings(true) } = job;
  const first = new FirstPredictions(parts, options, options.candidates, options.batch);
  try {
    for (const b of numbers) {
      if (journal.has(String(b))) continue;
      const rows = await scoreBatch(job, plan, b, { savings, first }, context);
      await journal.append(String(b), { rows, check: batchCheck(rows) });
      progress.advance(rows.length, pace.advance(rows.length));
    }
  } finally {
    first.dispose();
  }
  return numbers.map((b) => journal.get(String(b)) as StoredBatch);
}

async function scoreBatch(
  { folder, parts, options, pictures }: SweepJob,
  plan: SweepPlan,
  b: number,
  computation: { savings: Savings; first: FirstPredictions },
  { signal }: JobContext,
): Promise<StoredRow[]> {
  const units = batchUnits(plan, b);
  const requests: CandidateRequest[] = units.map(({ promptIndex, candidate }) => ({
    prompt: options.prompts[promptIndex] as string,
    candidate,
  }));
  const finish = pictures !== undefined || !computation.savings.earlyStop;
  const { mi, latents } = await sampleCandidates(parts, requests, options, finish, { signal }, computation);
  const columns: ArrayLike<number>[] = [mi];
  try {
    if (pictures !== undefined) {
      const images = await pictures.decode(latents);
      const prompts = requests.map(({ prompt }) => prompt);
      for (const scorer of pictures.scorers) columns.push(await scorer.score(images, prompts, { signal }));
      if (pictures.keep === true)
        for (const [k, unit] of units.entries())
          await writePicture(join(folder, PICTURES), images[k] as RgbImage, {
            prompt: prompts[k] as string,
            ...unit,
            seed: options.seed + unit.candidate,
            mi: mi[k] as number,
          });
    }
  } finally {
    latents.dispose();
  }
  return units.map(({ promptIndex, candidate }, k) => {
    const values = columns.map((column) => column[k] as number);
    const bad = values.findIndex((value) => !Number.isFinite(value));
    if (bad >= 0)
      throw new EquipoiseError(
        'numeric',
        `mi sweep: ${['mi', ...plan.scorers][bad]} of candidate ${candidate} of "${options.prompts[promptIndex]}": expected a finite number, got ${values[bad]}`,
      );
    return [promptIndex, candidate, ...values];
  });
}
