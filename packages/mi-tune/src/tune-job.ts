/** Fine-tuning as a resumable run: checkpoints with optimizer state, a log, TensorBoard events. */
import fs from 'node:fs/promises';
import { type Adapter, type AdapterConfig, createAdapter, saveAdapter } from '@equipoise/adapters';
import { invalid, type JobContext, Journal, ProgressCounter, prose, Run } from '@equipoise/core';
import { TensorBoardWriter } from '@equipoise/report';
import { float32Source, openSafetensors, readFloat32, writeSafetensors } from '@equipoise/weights';
import { loadExamples, readSet } from './example-set.js';
import { type FineTuneLog, type FineTuneOptions, FineTuner, type FineTuneState } from './fine-tune.js';
import type { DiffusionParts } from './parts.js';

export interface TuneJob {
  readonly folder: string;
  readonly parts: DiffusionParts;
  /** Folder of the fine-tuning set. */
  readonly set: string;
  readonly adapter: AdapterConfig;
  readonly options: FineTuneOptions;
  /** Updates between checkpoints. */
  readonly checkpointEvery: number;
  /** Called at each checkpoint and at the end, for instance to score the adapter. */
  readonly onCheckpoint?: (adapter: Adapter, step: number) => Promise<void>;
}

export interface TuneResult {
  /** Attached to the model under the name `mi-tune`. */
  readonly adapter: Adapter;
  readonly log: readonly FineTuneLog[];
}

const CHECKPOINT = 'checkpoint.safetensors';

/**
 * Runs or resumes a fine-tuning. Each checkpoint saves the adapter in diffusers' spelling: `adapter-N/`, and `adapter/` at
 * the end. On failure the adapter is taken off the model again.
 */
export async function tuneJob(job: TuneJob, context: JobContext = {}): Promise<TuneResult> {
  const { parts, options } = job;
  const set = await readSet(job.set);
  const run = await Run.open(job.folder, {
    command: 'mi-tune train',
    options: { ...options, adapter: { ...job.adapter, targets: [...job.adapter.targets] } },
    free: ['steps'],
    seeds: { tune: options.seed },
    inputs: { model: parts.hash, set: set.hash },
  });
  let adapter: Adapter | undefined;
  try {
    const journal = await Journal.open<FineTuneLog>(run.path('log.jsonl'));
    try {
      const examples = await loadExamples(job.set, parts);
      adapter = createAdapter(parts.unet, 'mi-tune', job.adapter, options.seed);
      const tuner = new FineTuner(parts, adapter, examples, options);
      try {
        await train(job, run, tuner, adapter, journal, context);
      } finally {
        tuner.dispose();
      }
      await run.finish();
      return { adapter, log: [...journal.entries.values()] };
    } finally {
      await journal.close();
    }
  } catch (error) {
    adapter?.remove();
    await run.fail(error);
    throw error;
  }
}

async function train(
  job: TuneJob,
  run: Run,
  tuner: FineTuner,
  adapter: Adapter,
  journal: Journal<FineTuneLog>,
  context: JobContext,
): Promise<void> {
  const { steps } = job.options;
  const file = run.path(CHECKPOINT);
  const state = await readCheckpoint(file);
  if (state !== undefined) tuner.restore(state);
  const progress = new ProgressCounter('mi-tune', context, { total: steps, unit: 'step' });
  if (tuner.step > 0) progress.advance(tuner.step);
  const board = new TensorBoardWriter(run.path('tensorboard'));
  while (tuner.step < steps) {
    const log = await run.time('updates', () => tuner.update());
    // A step made again after a kill is recorded again, with the same numbers.
    await journal.append(String(log.step), log);
    board.scalars(log.step, {
      'train/loss': log.loss,
      'train/gradient norm': log.gradientNorm,
      'train/learning rate': log.learningRate,
    });
    if (log.step % job.checkpointEvery === 0 || log.step === steps) {
      await writeCheckpoint(file, await tuner.state());
      await saveAdapter(run.path(log.step === steps ? 'adapter' : `adapter-${log.step}`), { unet: adapter });
      await job.onCheckpoint?.(adapter, log.step);
    }
    progress.advance(1, { loss: log.loss });
  }
}

async function writeCheckpoint(file: string, state: FineTuneState): Promise<void> {
  const tensors = state.tensors.flatMap((tensor, i) =>
    (['value', 'm', 'v'] as const).map((part) =>
      float32Source(`${i}.${part}`, [tensor[part].length], tensor[part]),
    ),
  );
  await writeSafetensors(file, tensors, { metadata: { step: String(state.step) } });
}

async function readCheckpoint(file: string): Promise<FineTuneState | undefined> {
  if (
    !(await fs.stat(file).then(
      () => true,
      () => false,
    ))
  )
    return undefined;
  const opened = await openSafetensors(file);
  try {
    const step = Number(opened.metadata.get('step'));
    if (!Number.isInteger(step) || step < 0)
      throw invalid(`${file}: step`, 'a number of steps', prose(String(opened.metadata.get('step'))), {
        code: 'corrupt',
      });
    const tensors: FineTuneState['tensors'][number][] = [];
    for (let i = 0; opened.tensors.has(`${i}.value`); i++) {
      const [value, m, v] = await Promise.all(
        ['value', 'm', 'v'].map((part) => readFloat32(opened.get(`${i}.${part}`))),
      );
      tensors.push({ value: value as Float32Array, m: m as Float32Array, v: v as Float32Array });
    }
    return { step, tensors };
  } finally {
    await opened.close();
  }
}
