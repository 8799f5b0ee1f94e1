/** Fine-tuning as a resumable run: checkpoints with optimizer state, validation, a log, TensorBoard events. */
import { cp, readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import {
  type Adapter,
  type AdapterConfig,
  AdapterGroup,
  createAdapter,
  loadAdapter,
  saveAdapter,
} from '@equipoise/adapters';
import { getPrecision } from '@equipoise/backend';
import {
  EquipoiseError,
  invalid,
  type JobContext,
  Journal,
  Pace,
  ProgressCounter,
  Run,
  type RunRecord,
  type RunSpec,
  sha256Json,
  withHints,
  writeJsonAtomic,
} from '@equipoise/core';
import { TensorBoardWriter } from '@equipoise/report';
import { hashWeights, readTrainingState, writeTrainingState } from '@equipoise/weights';
import * as tf from '@tensorflow/tfjs-core';
import type { SamplingOptions } from './candidates.js';
import { loadExamples, readSet } from './example-set.js';
import { type FineTuneLog, type FineTuneOptions, FineTuner } from './fine-tune.js';
import type { DiffusionParts } from './parts.js';
import { PICTURES, type PictureScores, sweep } from './sweep.js';
import { UNKNOWN_VAE } from './sweep-folder.js';

/** Pictures and scores of the model being tuned. */
export interface Validation {
  /** Updates between validations; there is one before the first update and one after the last, too. */
  readonly every: number;
  readonly prompts: readonly string[];
  /** Pictures per prompt. */
  readonly images: number;
  readonly sampling: SamplingOptions;
  readonly batch: number;
  /** Judges and decoder. MI is always among the scores. */
  readonly pictures: PictureScores;
  /** Score whose highest mean picks the best checkpoint. Default `mi`. */
  readonly choose?: string;
}

/** Means over the validation's pictures. */
export interface ValidationScores {
  readonly step: number;
  readonly scores: Readonly<Record<string, number>>;
}

export interface TuneJob {
  readonly folder: string;
  readonly parts: DiffusionParts;
  /** Folder of the fine-tuning set. */
  readonly set: string;
  /** Of the denoiser. */
  readonly adapter: AdapterConfig;
  /** Also tunes the text encoder. */
  readonly textAdapter?: AdapterConfig | undefined;
  /** Adapter folder to start from, in place of fresh ones. */
  readonly from?: string | undefined;
  readonly options: FineTuneOptions;
  /** Updates between checkpoints. */
  readonly checkpointEvery: number;
  readonly validation?: Validation | undefined;
}

export interface TuneResult {
  /** On the model under the name `mi-tune`, as after the last update. */
  readonly adapter: AdapterGroup;
  readonly log: readonly FineTuneLog[];
  readonly validations: readonly ValidationScores[];
  /** The checkpoint that validation chose: its adapter lies in `best/`. */
  readonly best: ValidationScores | undefined;
}

const NAME = 'mi-tune';
const CHECKPOINT = 'checkpoint.safetensors';
/** Validation pictures start from other noise than candidates, whose seeds begin where these options' do. */
const VALIDATION_OFFSET = 1_000_003;

/** Everything a run of fine-tuning leaves is named here. */
export const TUNE_FILES = {
  log: 'log.jsonl',
  validations: 'validations.jsonl',
  adapter: 'adapter',
  best: 'best',
  bestScores: 'best.json',
} as const;

/**
 * Runs or resumes a fine-tuning. Each checkpoint saves the adapter in diffusers' spelling: `adapter-N/`, and `adapter/` at
 * the end. On failure the adapter is taken off the model again; the last checkpoint stays as it is.
 *
 * @throws EquipoiseError `numeric` on NaN in a loss or gradient; `conflict` for a folder of another run
 */
export async function tuneJob(job: TuneJob, context: JobContext = {}): Promise<TuneResult> {
  checkJob(job);
  const run = await Run.open(job.folder, await tuneSpec(job));
  let adapter: AdapterGroup | undefined;
  try {
    const journal = await Journal.open<FineTuneLog>(run.path(TUNE_FILES.log));
    const validations = await Journal.open<ValidationScores>(run.path(TUNE_FILES.validations));
    try {
      const examples = await loadExamples(job.set, job.parts);
      adapter = await startAdapter(job);
      const tuner = new FineTuner(job.parts, [...adapter.parts.values()], examples, job.options);
      try {
        await train(job, run, tuner, adapter, { journal, validations }, context);
      } finally {
        tuner.dispose();
      }
      const scores = [...validations.entries.values()].sort((a, b) => a.step - b.step);
      const best = await keepBest(job, run, scores);
      await run.finish();
      return { adapter, log: [...journal.entries.values()], validations: scores, best };
    } finally {
      await validations.close();
      await journal.close();
    }
  } catch (error) {
    adapter?.remove();
    await run.fail(error);
    throw error;
  }
}

function checkJob({ checkpointEvery, validation }: TuneJob): void {
  const positive = (name: string, value: number): void => {
    if (!Number.isInteger(value) || value < 1) throw invalid(name, 'a positive whole number', value);
  };
  positive('checkpointEvery', checkpointEvery);
  if (validation === undefined) return;
  positive('validation every', validation.every);
  positive('validation images', validation.images);
  const { choose = 'mi' } = validation;
  const known = ['mi', ...validation.pictures.scorers.map(({ name }) => name)];
  if (!known.includes(choose)) throw invalid('validation score', `one of ${known.join(', ')}`, choose);
}

async function tuneSpec(job: TuneJob): Promise<RunSpec> {
  const { parts, options, adapter, textAdapter, from, validation } = job;
  const plain = (config: AdapterConfig) => ({ ...config, targets: [...config.targets] });
  const set = await readSet(job.set);
  return {
    command: 'mi-tune train',
    options: {
      ...options,
      adapter: plain(adapter),
      ...(textAdapter !== undefined && { textAdapter: plain(textAdapter) }),
      ...(validation !== undefined && {
        validation: {
          every: validation.every,
          images: validation.images,
          sampling: { ...validation.sampling },
          prompts: sha256Json(validation.prompts),
          scorers: validation.pictures.scorers.map(({ name, hash }) => `${name} ${hash}`),
        },
      }),
      engine: tf.getBackend(),
      precision: getPrecision(),
    },
    // A falling rate depends on how many updates there will be.
    free: options.decay === 'none' ? ['updates'] : [],
    upgrade: upgradeTuning,
    seeds: { tune: options.seed },
    inputs: {
      model: parts.hash,
      set: set.hash,
      ...(validation !== undefined && { vae: parts.vaeHash }),
      ...(from !== undefined && { from: await hashWeights(from) }),
    },
  };
}

/** Earlier versions called updates steps, and did not name the autoencoder that validation pictures come from. */
function upgradeTuning({ options: { steps, ...options }, inputs, ...earlier }: RunRecord): RunRecord {
  return {
    ...earlier,
    options: steps === undefined ? options : { ...options, updates: steps },
    inputs: options.validation === undefined ? inputs : { vae: UNKNOWN_VAE, ...inputs },
  };
}

async function startAdapter({ parts, adapter, textAdapter, from, options }: TuneJob): Promise<AdapterGroup> {
  const { unet, textEncoder } = parts;
  if (from !== undefined) return loadAdapter(from, { unet, text_encoder: textEncoder }, { name: NAME });
  const fresh = new Map<string, Adapter>([['unet', createAdapter(unet, NAME, adapter, options.seed)]]);
  try {
    if (textAdapter !== undefined)
      fresh.set('text_encoder', createAdapter(textEncoder, NAME, textAdapter, options.seed));
  } catch (error) {
    for (const part of fresh.values()) part.remove();
    throw error;
  }
  return new AdapterGroup(NAME, 'diffusers', fresh);
}

interface Journals {
  readonly journal: Journal<FineTuneLog>;
  readonly validations: Journal<ValidationScores>;
}

async function train(
  job: TuneJob,
  run: Run,
  tuner: FineTuner,
  adapter: AdapterGroup,
  { journal, validations }: Journals,
  context: JobContext,
): Promise<void> {
  const { updates } = job.options;
  const file = run.path(CHECKPOINT);
  const state = await readTrainingState(file).catch((error: unknown) => {
    const damaged = error instanceof EquipoiseError && error.code === 'corrupt';
    throw damaged
      ? withHints(error, 'Delete the file to tune again from the start, to the same numbers.')
      : error;
  });
  if (state !== undefined) tuner.restore(state);
  if (tuner.step > updates)
    throw invalid('updates', `at least the ${tuner.step} that the run has done`, updates, {
      code: 'conflict',
    });
  const progress = new ProgressCounter(NAME, context, { total: updates, unit: 'update' });
  if (tuner.step > 0) progress.advance(tuner.step);
  const pace = new Pace(updates - tuner.step, 'update');
  const board = new TensorBoardWriter(run.path('tensorboard'));
  const validate = async (): Promise<void> => {
    if (!isDue(job, tuner.step) || validations.has(String(tuner.step))) return;
    const { step, scores } = await run.time('validation', () => score(job, run, tuner.step, context));
    board.scalars(
      step,
      Object.fromEntries(Object.entries(scores).map(([k, value]) => [`validation/${k}`, value])),
    );
    await showPictures(board, step, run.path('validation', `step-${step}`, PICTURES));
    await validations.append(String(step), { step, scores });
  };
  await validate();
  while (tuner.step < updates) {
    const log = await run.time('updates', () => tuner.update());
    // A step made again after a kill is recorded again, with the same numbers.
    await journal.append(String(log.step), log);
    board.scalars(log.step, {
      'train/loss': log.loss,
      'train/gradient norm': log.gradientNorm,
      'train/learning rate': log.learningRate,
    });
    const checkpoint = log.step % job.checkpointEvery === 0 || log.step === updates;
    // The adapter and its scores come before the checkpoint, so that a kill in between loses neither.
    if (checkpoint || isDue(job, log.step)) await saveAdapter(run.path(`adapter-${log.step}`), adapter.parts);
    await validate();
    if (checkpoint) await writeTrainingState(file, await tuner.state());
    progress.advance(1, { loss: log.loss, ...pace.advance(1) });
  }
  await saveAdapter(run.path(TUNE_FILES.adapter), adapter.parts);
}

function isDue({ validation, options }: TuneJob, step: number): boolean {
  return validation !== undefined && (step % validation.every === 0 || step === options.updates);
}

/** Draws and scores with the adapter as it is. */
async function score(job: TuneJob, run: Run, step: number, context: JobContext): Promise<ValidationScores> {
  const { prompts, images, sampling, batch, pictures } = job.validation as Validation;
  const rows = await sweep(
    {
      folder: run.path('validation', `step-${step}`),
      parts: job.parts,
      options: { ...sampling, seed: sampling.seed + VALIDATION_OFFSET, prompts, candidates: images, batch },
      adapter: `${sha256Json(run.record.inputs)} step ${step}`,
      pictures: { ...pictures, keep: true },
      table: false,
    },
    {
      signal: context.signal,
      onProgress: (event) => context.onProgress?.({ ...event, task: `validation at update ${step}` }),
    },
  );
  const mean = (value: (row: (typeof rows)[number]) => number): number =>
    rows.reduce((sum, row) => sum + value(row), 0) / rows.length;
  const scores = Object.fromEntries([
    ['mi', mean(({ mi }) => mi)],
    ...pictures.scorers.map(({ name }) => [name, mean((row) => row.scores[name] as number)] as const),
  ]);
  return { step, scores };
}

/** The first validation pictures on the board. */
async function showPictures(board: TensorBoardWriter, step: number, folder: string): Promise<void> {
  for (const name of (await readdir(folder)).sort().slice(0, 8)) {
    const png = await readFile(join(folder, name));
    // The header chunk begins at byte 8: length, type, width, height.
    const size = { width: png.readUInt32BE(16), height: png.readUInt32BE(20) };
    board.image(step, `validation/${name.replace(/\.png$/, '')}`, { png, ...size });
  }
}

/** Copies the adapter of the best validation to `best/`; the untuned model, step 0, takes no part. */
async function keepBest(
  { validation }: TuneJob,
  run: Run,
  scores: readonly ValidationScores[],
): Promise<ValidationScores | undefined> {
  if (validation === undefined) return undefined;
  const { choose = 'mi' } = validation;
  const value = (one: ValidationScores): number => one.scores[choose] as number;
  const tuned = scores.filter(({ step }) => step > 0);
  const [first] = tuned;
  if (first === undefined)
    throw new EquipoiseError('internal', `${run.folder}: expected a validation after the last update`);
  const best = tuned.reduce((a, b) => (value(b) > value(a) ? b : a), first);
  await rm(run.path(TUNE_FILES.best), { recursive: true, force: true });
  await cp(run.path(`adapter-${best.step}`), run.path(TUNE_FILES.best), { recursive: true });
  await writeJsonAtomic(run.path(TUNE_FILES.bestScores), {
    step: best.step,
    choose,
    scores: { ...best.scores },
  });
  return best;
}
