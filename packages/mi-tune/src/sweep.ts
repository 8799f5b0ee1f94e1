/**
 * A sweep scores M candidates of each prompt. Its unit of work is a batch of candidates, fixed by the settings: batch b
 * holds candidates b*B .. (b+1)*B-1 of the list (prompt 0 candidate 0, prompt 0 candidate 1, ...). A batch is journaled
 * when it is done; whatever kills the process, the next start repeats at most the batches that were under way, with the
 * same numbers. Shard i of n owns the batches b with b mod n = i.
 */
import { invalid, type JobContext, Journal, ProgressCounter, prose, Run, sha256Json } from '@equipoise/core';
import { type CandidateRequest, type SamplingOptions, sampleCandidates } from './candidates.js';
import type { DiffusionParts } from './parts.js';

export interface SweepOptions extends SamplingOptions {
  readonly prompts: readonly string[];
  /** M: candidates per prompt. */
  readonly candidates: number;
  /** Candidates that are sampled together, across prompts. */
  readonly batch: number;
}

export interface Shard {
  readonly index: number;
  readonly count: number;
}

/** One scored candidate. */
export interface SweepRow {
  readonly prompt: string;
  readonly promptIndex: number;
  readonly candidate: number;
  readonly mi: number;
}

/** `[promptIndex, candidate, mi]`, as journaled. */
type StoredRow = readonly [number, number, number];

export interface SweepJob {
  readonly folder: string;
  readonly parts: DiffusionParts;
  readonly options: SweepOptions;
  /** Hash of the adapter on the model; '' for none. */
  readonly adapter?: string;
  /** Default: all batches. */
  readonly shard?: Shard;
}

function checkOptions({ prompts, candidates, batch, steps }: SweepOptions, shard: Shard): void {
  for (const [name, value] of Object.entries({ candidates, batch, steps })) {
    if (!Number.isInteger(value) || value < 1) throw invalid(name, 'a positive whole number', value);
  }
  if (prompts.length === 0) throw invalid('prompts', 'at least one prompt', prompts);
  const twice = prompts.find((prompt, i) => prompts.indexOf(prompt) !== i);
  if (twice !== undefined) throw invalid('prompts', 'each prompt once', prose(`"${twice}" twice`));
  const { index, count } = shard;
  if (!(Number.isInteger(count) && count >= 1 && Number.isInteger(index) && index >= 0 && index < count)) {
    throw invalid('shard', 'an index from 0 to count - 1', prose(`${index} of ${count}`));
  }
}

/** Runs what is missing of a sweep, or of one shard of it, and returns the shard's rows in order. */
export async function sweep(
  { folder, parts, options, adapter = '', shard = { index: 0, count: 1 } }: SweepJob,
  context: JobContext = {},
): Promise<SweepRow[]> {
  checkOptions(options, shard);
  const { prompts, ...settings } = options;
  const run = await Run.open(folder, {
    command: 'mi sweep',
    options: { ...settings, shard: `${shard.index}/${shard.count}` },
    seeds: { sweep: options.seed },
    inputs: { model: parts.hash, adapter, prompts: sha256Json(prompts) },
  });
  try {
    const journal = await Journal.open<StoredRow[]>(run.path('scores.jsonl'));
    try {
      const stored = await run.time('batches', () => runBatches(parts, options, shard, journal, context));
      await run.finish();
      return stored.map(([promptIndex, candidate, mi]) => ({
        prompt: prompts[promptIndex] as string,
        promptIndex,
        candidate,
        mi,
      }));
    } finally {
      await journal.close();
    }
  } catch (error) {
    await run.fail(error);
    throw error;
  }
}

async function runBatches(
  parts: DiffusionParts,
  options: SweepOptions,
  shard: Shard,
  journal: Journal<StoredRow[]>,
  context: JobContext,
): Promise<StoredRow[]> {
  const total = options.prompts.length * options.candidates;
  const batches = Array.from({ length: Math.ceil(total / options.batch) }, (_, b) => b).filter(
    (b) => b % shard.count === shard.index,
  );
  const size = (b: number): number => Math.min(options.batch, total - b * options.batch);
  const progress = new ProgressCounter('mi sweep', context, {
    total: batches.reduce((sum, b) => sum + size(b), 0),
    unit: 'candidate',
  });
  const rows: StoredRow[] = [];
  for (const b of batches) {
    const done = await journal.once(String(b), () => scoreBatch(parts, options, b, size(b), context));
    rows.push(...done);
    progress.advance(done.length);
  }
  return rows;
}

async function scoreBatch(
  parts: DiffusionParts,
  options: SweepOptions,
  b: number,
  size: number,
  { signal }: JobContext,
): Promise<StoredRow[]> {
  const units = Array.from({ length: size }, (_, k) => {
    const at = b * options.batch + k;
    return { promptIndex: Math.floor(at / options.candidates), candidate: at % options.candidates };
  });
  const requests: CandidateRequest[] = units.map(({ promptIndex, candidate }) => ({
    prompt: options.prompts[promptIndex] as string,
    candidate,
  }));
  const { mi, latents } = await sampleCandidates(parts, requests, options, false, { signal });
  latents.dispose();
  return units.map(({ promptIndex, candidate }, k) => [promptIndex, candidate, mi[k] as number]);
}

/** The k best candidates of each prompt, best first; ties go to the lower candidate. */
export function topCandidates(rows: readonly SweepRow[], k: number): SweepRow[] {
  const byPrompt = new Map<number, SweepRow[]>();
  for (const row of rows) byPrompt.set(row.promptIndex, [...(byPrompt.get(row.promptIndex) ?? []), row]);
  const chosen: SweepRow[] = [];
  for (const [, own] of [...byPrompt].sort(([a], [b]) => a - b)) {
    if (k > own.length || !Number.isInteger(k) || k < 1)
      throw invalid('top', `a whole number from 1 to the ${own.length} candidates of a prompt`, k);
    chosen.push(...own.sort((a, b) => b.mi - a.mi || a.candidate - b.candidate).slice(0, k));
  }
  return chosen;
}

/** Rows of all shards in the order of the whole sweep. */
export function mergeShards(shards: readonly (readonly SweepRow[])[]): SweepRow[] {
  return shards.flat().sort((a, b) => a.promptIndex - b.promptIndex || a.candidate - b.candidate);
}
