/**
 * What a sweep's folder holds: `run.json` (settings), `prompts.json`, and `scores.jsonl`, a journal of finished batches
 * with a checksum each. Everything else (tables, Parquet) is made from these.
 */
import { createReadStream } from 'node:fs';
import fs from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import {
  EquipoiseError,
  exists,
  invalid,
  type JsonValue,
  parseJson,
  prose,
  type RunRecord,
  readRunRecord,
  sha256Json,
  writeJsonAtomic,
} from '@equipoise/core';
import type { SamplingOptions } from './candidates.js';

export const SWEEP_COMMAND = 'mi sweep';
export const JOURNAL = 'scores.jsonl';
const PROMPTS = 'prompts.json';

/** Part `index` (from 0) of `count` equal ones. */
export interface Shard {
  readonly index: number;
  readonly count: number;
}

/** Stands for the autoencoder in records of versions that did not name it. */
export const UNKNOWN_VAE = 'not recorded by an earlier version';

export const WHOLE: Shard = { index: 0, count: 1 };

/** A shard as run.json has it, counted from 1 as on the command line. */
export function shardText({ index, count }: Shard): string {
  return `${index + 1} of ${count}`;
}

/** Earlier versions wrote `0/4` for shard 1 of 4. */
function parseShard(text: unknown): Shard {
  const [, first, older, second] = /^(\d+)(?:(\/)| of )(\d+)$/.exec(String(text)) ?? [];
  return { index: Number(first) - (older === undefined ? 1 : 0), count: Number(second) };
}

/**
 * The record of an earlier version in today's terms. It did not name the autoencoder that pictures went through: such a
 * sweep can be read, and merged with its like, but nobody knows with what to go on.
 *
 * @param sampler of the sweep that it is compared with, where it named none: the model's hash covers it, too
 */
export function upgradeSweep(earlier: RunRecord, sampler?: JsonValue): RunRecord {
  const { command, options, inputs } = earlier;
  if (command !== SWEEP_COMMAND) return earlier;
  const pictures = options.pictures === true || (options.scorers as readonly string[]).length > 0;
  return {
    ...earlier,
    options: {
      ...(sampler !== undefined && { sampler }),
      ...options,
      shard: shardText(parseShard(options.shard)),
    },
    inputs: pictures ? { vae: UNKNOWN_VAE, ...inputs } : inputs,
  };
}

/** One scored candidate. */
export interface SweepRow {
  readonly prompt: string;
  readonly promptIndex: number;
  readonly candidate: number;
  readonly mi: number;
  /** Of further scorers, by name. */
  readonly scores: Readonly<Record<string, number>>;
}

/** `[promptIndex, candidate, mi, ...scores]`. */
export type StoredRow = readonly number[];

/** A finished batch, as journaled. */
export interface StoredBatch {
  readonly rows: readonly StoredRow[];
  readonly check: string;
}

/** The layout of a sweep: which batches there are and what each holds. */
export interface SweepPlan {
  readonly prompts: number;
  readonly candidates: number;
  readonly batch: number;
  readonly shard: Shard;
  /** Names of the scorers besides MI. */
  readonly scorers: readonly string[];
}

/** Numbers of the batches that a shard owns: every count-th one. */
export function batchNumbers({ prompts, candidates, batch, shard }: SweepPlan): number[] {
  const numbers: number[] = [];
  for (let b = shard.index; b * batch < prompts * candidates; b += shard.count) numbers.push(b);
  return numbers;
}

/** Prompt and candidate of each row of a batch. */
export function batchUnits(
  { prompts, candidates, batch }: SweepPlan,
  b: number,
): { promptIndex: number; candidate: number }[] {
  const size = Math.min(batch, prompts * candidates - b * batch);
  return Array.from({ length: size }, (_, k) => {
    const at = b * batch + k;
    return { promptIndex: Math.floor(at / candidates), candidate: at % candidates };
  });
}

export function batchCheck(rows: readonly StoredRow[]): string {
  return sha256Json(rows).slice(0, 16);
}

/** Whether a journaled value is the whole, unchanged batch of that number. */
export function isBatch(plan: SweepPlan, key: string, value: unknown): value is StoredBatch {
  const { rows, check } = (value ?? {}) as Partial<StoredBatch>;
  const b = Number(key);
  if (!Number.isInteger(b) || b < 0 || b * plan.batch >= plan.prompts * plan.candidates) return false;
  if (!Array.isArray(rows) || batchCheck(rows) !== check) return false;
  const units = batchUnits(plan, b);
  return (
    rows.length === units.length &&
    units.every(({ promptIndex, candidate }, k) => {
      const row = rows[k] as StoredRow;
      return (
        row.length === 3 + plan.scorers.length &&
        row[0] === promptIndex &&
        row[1] === candidate &&
        row.slice(2).every(Number.isFinite)
      );
    })
  );
}

export function rowsOf(
  batches: readonly StoredBatch[],
  prompts: readonly string[],
  scorers: readonly string[],
): SweepRow[] {
  return batches.flatMap(({ rows }) =>
    rows.map(([promptIndex = 0, candidate = 0, mi = 0, ...scores]) => ({
      prompt: prompts[promptIndex] as string,
      promptIndex,
      candidate,
      mi,
      scores: Object.fromEntries(scorers.map((name, i) => [name, scores[i] as number])),
    })),
  );
}

/** Also over a file that is there: it may be damaged, and the run that is open has been found to have these prompts. */
export async function writePrompts(folder: string, prompts: readonly string[]): Promise<void> {
  await writeJsonAtomic(join(folder, PROMPTS), { prompts: [...prompts] });
}

/** A sweep folder as it stands, complete or not. */
export interface StoredSweep {
  readonly folder: string;
  readonly record: RunRecord;
  readonly prompts: readonly string[];
  readonly plan: SweepPlan;
  readonly sampling: SamplingOptions;
  /** Good batches by number. */
  readonly batches: ReadonlyMap<number, StoredBatch>;
  /** Numbers of batches that the shard owns and does not have. */
  readonly missing: readonly number[];
  /** Lines of the journal that are not whole batches. */
  readonly damaged: number;
}

/**
 * Reads a sweep folder without locking or changing it.
 *
 * @throws EquipoiseError `missing` when it holds no sweep, `corrupt` when its settings or prompts are not readable
 */
export async function readSweep(folder: string): Promise<StoredSweep> {
  const stored = await readRunRecord(folder);
  if (stored === undefined)
    throw new EquipoiseError('missing', `${folder}: expected the folder of a sweep, with its run.json`);
  if (stored.command !== SWEEP_COMMAND)
    throw invalid(folder, 'the folder of a sweep', prose(`that of ${stored.command}`));
  const record = upgradeSweep(stored);
  const prompts = await readStoredPrompts(folder, record);
  const options = record.options as Record<string, unknown>;
  const plan: SweepPlan = {
    prompts: prompts.length,
    candidates: options.candidates as number,
    batch: options.batch as number,
    shard: parseShard(options.shard),
    scorers: options.scorers as string[],
  };
  const batches = new Map<number, StoredBatch>();
  let damaged = 0;
  for await (const line of journalLines(join(folder, JOURNAL))) {
    const entry = parseEntry(line);
    if (entry !== undefined && isBatch(plan, entry.key, entry.value))
      batches.set(Number(entry.key), entry.value);
    else damaged++;
  }
  const missing = batchNumbers(plan).filter((b) => !batches.has(b));
  const { seed, steps, guidance, weighting, truncation } = options as unknown as SamplingOptions;
  const sampling = {
    seed,
    steps,
    guidance,
    ...(weighting !== undefined && { weighting }),
    ...(truncation !== undefined && { truncation }),
  };
  return { folder, record, prompts, plan, sampling, batches, missing, damaged };
}

/** Rows of a sweep in order. */
export function sweepRows({ batches, prompts, plan }: StoredSweep): SweepRow[] {
  const numbers = [...batches.keys()].sort((a, b) => a - b);
  return rowsOf(
    numbers.map((b) => batches.get(b) as StoredBatch),
    prompts,
    plan.scorers,
  );
}

/** @throws EquipoiseError `corrupt` naming the folder, unless it has all of its batches */
export function requireComplete({ folder, missing, plan }: StoredSweep): void {
  if (missing.length === 0) return;
  const { length } = batchNumbers(plan);
  throw invalid(folder, `${length} whole batches`, prose(`${length - missing.length}`), {
    code: 'corrupt',
    hints: [
      'Start its sweep again with the same settings: it makes the batches that are missing or damaged.',
    ],
  });
}

async function readStoredPrompts(folder: string, record: RunRecord): Promise<string[]> {
  const file = join(folder, PROMPTS);
  const text = await fs.readFile(file, 'utf8').catch((cause: unknown) => {
    throw new EquipoiseError('missing', `${file}: expected the prompts of the sweep`, { cause });
  });
  const { prompts } = (parseJson(text, file) ?? {}) as { prompts?: string[] };
  if (!Array.isArray(prompts) || sha256Json(prompts) !== record.inputs.prompts)
    throw invalid(file, 'the prompts named in run.json', prose('others'), { code: 'corrupt' });
  return prompts;
}

async function* journalLines(file: string): AsyncGenerator<string> {
  if (!(await exists(file))) return;
  for await (const line of createInterface({ input: createReadStream(file, 'utf8'), crlfDelay: Infinity }))
    yield line;
}

function parseEntry(line: string): { key: string; value: unknown } | undefined {
  try {
    const { key, value } = JSON.parse(line) as { key: unknown; value: unknown };
    return typeof key === 'string' ? { key, value } : undefined;
  } catch {
    return undefined;
  }
}

/** The rows of each prompt, by its index, as they come. */
export function rowsByPrompt(rows: readonly SweepRow[]): Map<number, SweepRow[]> {
  const byPrompt = new Map<number, SweepRow[]>();
  for (const row of rows) {
    const own = byPrompt.get(row.promptIndex);
    if (own === undefined) byPrompt.set(row.promptIndex, [row]);
    else own.push(row);
  }
  return byPrompt;
}
