/**
 * Rounds of MI-TUNE: score candidates with the model as it is, build a set of the best, tune an adapter on it; the next
 * round's candidates are drawn with that adapter on.
 */
import { join } from 'node:path';
import { type AdapterConfig, loadAdapter } from '@equipoise/adapters';
import { invalid, type JobContext, Run, sha256Json } from '@equipoise/core';
import { hashFolder } from '@equipoise/weights';
import type { SamplingOptions } from './candidates.js';
import { buildSet } from './example-set.js';
import type { FineTuneOptions } from './fine-tune.js';
import type { DiffusionParts } from './parts.js';
import type { Decode, Encode } from './pictures.js';
import { mixRealImages, type RealImage } from './real-images.js';
import { type Selection, selectCandidates } from './selection.js';
import { type PictureScores, sweep } from './sweep.js';
import { TUNE_FILES, type TuneResult, tuneJob, type Validation } from './tune-job.js';

export interface RoundsJob {
  readonly folder: string;
  readonly parts: DiffusionParts;
  readonly prompts: readonly string[];
  readonly sampling: SamplingOptions;
  /** M and k: candidates per prompt, and how many of them are kept. */
  readonly candidates: number;
  readonly top: number;
  readonly selection: Selection;
  /** Candidates sampled together. */
  readonly batch: number;
  readonly rounds: number;
  /** Adapter of each round: fresh on the base model, as published, or the previous round's tuned further. */
  readonly start: 'fresh' | 'previous';
  readonly adapter: AdapterConfig;
  readonly textAdapter?: AdapterConfig | undefined;
  readonly tune: FineTuneOptions;
  readonly checkpointEvery: number;
  readonly validation?: Validation | undefined;
  /** Which of a round's adapters goes on: the last, or the one validation chose. Default `last`. */
  readonly keep?: 'last' | 'best';
  /** Scores that the selection needs besides MI. */
  readonly pictures?: PictureScores | undefined;
  /** Real pictures that take a share of every round's set. */
  readonly real?: { readonly images: readonly RealImage[]; readonly fraction: number } | undefined;
  readonly decode?: Decode | undefined;
  readonly encode?: Encode | undefined;
  /** Sweep that round 1 chooses from, where several runs share it. Default: in the round's folder. */
  readonly firstSweep?: SharedSweep | undefined;
}

export interface SharedSweep {
  readonly folder: string;
  /** Candidates per prompt that it has: at least those of the job, which takes the first of them. */
  readonly candidates: number;
  readonly pictures?: PictureScores | undefined;
}

export interface RoundResult extends Omit<TuneResult, 'adapter'> {
  readonly round: number;
  /** Folder of the adapter that goes on. */
  readonly adapter: string;
  readonly set: string;
}

/** Runs what is missing of all rounds. No adapter is on the model afterwards; load the last result's. */
export async function runRounds(job: RoundsJob, context: JobContext = {}): Promise<RoundResult[]> {
  const { folder, rounds, keep = 'last', validation } = job;
  if (!Number.isInteger(rounds) || rounds < 1) throw invalid('rounds', 'a positive whole number', rounds);
  if (job.top > job.candidates || !Number.isInteger(job.top) || job.top < 1)
    throw invalid('top', `a whole number from 1 to the ${job.candidates} candidates of a prompt`, job.top);
  if (job.firstSweep !== undefined && job.firstSweep.candidates < job.candidates)
    throw invalid(
      'firstSweep',
      `at least ${job.candidates} candidates per prompt`,
      job.firstSweep.candidates,
    );
  if (keep === 'best' && validation === undefined)
    throw invalid('keep', 'last, where there is no validation', keep);
  const run = await Run.open(folder, {
    command: 'mi-tune run',
    options: {
      candidates: job.candidates,
      top: job.top,
      selection: { ...job.selection },
      start: job.start,
      keep,
      realFraction: job.real?.fraction ?? 0,
      rounds,
    },
    free: ['rounds'],
    inputs: { model: job.parts.hash, prompts: sha256Json(job.prompts) },
  });
  try {
    const results: RoundResult[] = [];
    for (let round = 1; round <= rounds; round++)
      results.push(await run.time(`round ${round}`, () => oneRound(job, round, results.at(-1), context)));
    await run.finish();
    return results;
  } catch (error) {
    await run.fail(error);
    throw error;
  }
}

async function oneRound(
  job: RoundsJob,
  round: number,
  previous: RoundResult | undefined,
  context: JobContext,
): Promise<RoundResult> {
  const folder = join(job.folder, `round-${round}`);
  await roundSet(job, folder, previous, context);
  const { adapter, ...result } = await tuneJob(
    {
      folder: join(folder, 'tune'),
      parts: job.parts,
      set: join(folder, 'set'),
      adapter: job.adapter,
      textAdapter: job.textAdapter,
      from: job.start === 'previous' ? previous?.adapter : undefined,
      options: job.tune,
      checkpointEvery: job.checkpointEvery,
      validation: job.validation,
    },
    context,
  );
  adapter.remove();
  const name = job.keep === 'best' ? TUNE_FILES.best : TUNE_FILES.adapter;
  return { ...result, round, adapter: join(folder, 'tune', name), set: join(folder, 'set') };
}

/** Scores candidates with the previous round's adapter on, chooses and builds the set. */
async function roundSet(
  job: RoundsJob,
  folder: string,
  previous: RoundResult | undefined,
  context: JobContext,
): Promise<void> {
  const { parts, prompts, sampling, candidates, batch, pictures } = job;
  const loaded =
    previous === undefined
      ? undefined
      : await loadAdapter(
          previous.adapter,
          { unet: parts.unet, text_encoder: parts.textEncoder },
          { name: 'round' },
        );
  try {
    const adapter = previous === undefined ? '' : await hashFolder(previous.adapter);
    const shared = previous === undefined ? job.firstSweep : undefined;
    const rows = await sweep(
      {
        folder: shared?.folder ?? join(folder, 'sweep'),
        parts,
        options: { ...sampling, prompts, candidates: shared?.candidates ?? candidates, batch },
        adapter,
        pictures: shared === undefined ? pictures : shared.pictures,
      },
      context,
    );
    const chosen = selectCandidates(rows, job.top, job.selection, candidates);
    const contents =
      job.real === undefined || job.real.fraction === 0
        ? { chosen }
        : mixRealImages(chosen, job.real.images, job.real.fraction, sampling.seed);
    const { decode, encode } = job;
    await buildSet(
      join(folder, 'set'),
      parts,
      contents,
      sampling,
      { batch, decode, encode, adapter },
      context,
    );
  } finally {
    loaded?.remove();
  }
}
