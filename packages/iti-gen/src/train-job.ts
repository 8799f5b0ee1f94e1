/** Learning as a resumable run: references, features, checkpoints, logs and files in one folder. */
import {
  invalid,
  type JobContext,
  Journal,
  prose,
  type Run,
  Run as RunFolder,
  type RunRecord,
  type RunSpec,
  sha256Json,
  throwIfCancelled,
} from '@equipoise/core';
import { TensorBoardWriter } from '@equipoise/report';
import { readTrainingState, writeTrainingState } from '@equipoise/weights';
import { type Attribute, type AttributeFiles, chooseReferences, imbalanceWarning } from './attributes.js';
import type { LoadedClip } from './clip-folder.js';
import { attributeFeatures } from './features.js';
import { type InclusiveTokens, saveTokens } from './tokens.js';
import { InclusiveTrainer, type StepLog, type TrainOptions } from './train.js';

export interface TrainJobOptions extends TrainOptions {
  /** References per category; the paper uses 25. */
  readonly references: number;
  /** Tokens are saved after every so many epochs. */
  readonly saveEvery: number;
}

export interface TrainJob {
  readonly folder: string;
  readonly clip: LoadedClip;
  readonly attributes: readonly AttributeFiles[];
  readonly options: TrainJobOptions;
  /** Where image features are cached; inside the run folder if absent. */
  readonly featureCache?: string;
  readonly onWarning?: (message: string) => void;
}

export interface TrainResult {
  readonly tokens: InclusiveTokens;
  readonly log: readonly StepLog[];
  /** The file with the final tokens. */
  readonly file: string;
}

const CHECKPOINT = 'checkpoint.safetensors';
const TOKENS = 'tokens.safetensors';

/** Runs or resumes a training; everything it makes is in the run folder, and a finished run is read back. */
export async function trainJob(job: TrainJob, context: JobContext = {}): Promise<TrainResult> {
  const { options } = job;
  const attributes = await chooseReferences(job.attributes, options.references, options.seed, context);
  for (const attribute of attributes) {
    const warning = imbalanceWarning(attribute);
    if (warning !== undefined) job.onWarning?.(warning);
  }
  const run = await RunFolder.open(job.folder, runSpec(job, attributes));
  const journal = await Journal.open<StepLog[]>(run.path('log.jsonl')).catch(async (error: unknown) => {
    await run.fail(error);
    throw error;
  });
  try {
    const tokens = await learn(job, attributes, run, journal, context);
    const file = run.path(TOKENS);
    await saveTokens(file, tokens);
    await run.finish();
    return { tokens, log: [...journal.entries.values()].flat(), file };
  } catch (error) {
    await run.fail(error);
    throw error;
  } finally {
    await journal.close();
  }
}

function runSpec({ options, clip }: TrainJob, attributes: readonly Attribute[]): RunSpec {
  const references = attributes.map(({ name, categories }) => ({
    name,
    categories: categories.map((c) => ({ name: c.name, images: c.images.map((i) => i.hash) })),
  }));
  return {
    command: 'iti-gen train',
    options: { ...options },
    free: ['saveEvery', 'epochs'],
    upgrade: (earlier) => ({ ...earlier, options: renamed(earlier.options) }),
    seeds: { run: options.seed },
    inputs: { clip: clip.hash, references: sha256Json(references) },
  };
}

/** Updates were called steps. */
function renamed({ stepsPerEpoch, ...options }: RunRecord['options']): RunRecord['options'] {
  return stepsPerEpoch === undefined ? options : { ...options, updatesPerEpoch: stepsPerEpoch };
}

async function learn(
  job: TrainJob,
  attributes: readonly Attribute[],
  run: Run,
  journal: Journal<StepLog[]>,
  context: JobContext,
): Promise<InclusiveTokens> {
  const { options, clip } = job;
  const source = {
    clip: clip.clip,
    clipHash: clip.hash,
    preprocess: clip.preprocess,
    cacheFolder: job.featureCache ?? run.path('features'),
  };
  const features = await run.time('image features', async () => {
    const all = [];
    for (const attribute of attributes) all.push(await attributeFeatures(attribute, source, context));
    return all;
  });
  const trainer = new InclusiveTrainer(attributes, features, clip.clip, clip.tokenizer, options);
  try {
    const state = await readTrainingState(run.path(CHECKPOINT));
    if (state !== undefined) trainer.restore(state);
    // Fewer epochs than are done would give tokens that a fresh run with these options does not.
    if (trainer.epoch > options.epochs)
      throw invalid(
        'epochs',
        `at least the ${trainer.epoch} that ${job.folder} has done`,
        prose(String(options.epochs)),
        {
          code: 'conflict',
          hints: ['Earlier tokens are in tokens-epoch-N.safetensors, or choose another folder.'],
        },
      );
    const board = new TensorBoardWriter(run.path('tensorboard'));
    while (trainer.epoch < options.epochs) {
      throwIfCancelled(context.signal, 'iti-gen train');
      const { epoch } = trainer;
      const logs = await run.time('epochs', () => trainer.epochStep(context));
      await journal.append(String(epoch), logs);
      board.scalars(epoch, scalarsOf(logs));
      // Before the checkpoint: a run killed in between makes the epoch, and this file, again.
      if (trainer.epoch % options.saveEvery === 0)
        await saveTokens(
          run.path(`tokens-epoch-${trainer.epoch}.safetensors`),
          await trainer.tokens(clip.hash),
        );
      await writeTrainingState(run.path(CHECKPOINT), await trainer.state());
    }
    return await trainer.tokens(clip.hash);
  } finally {
    trainer.dispose();
  }
}

/** Means over an epoch's steps, per attribute. */
function scalarsOf(logs: readonly StepLog[]): Record<string, number> {
  const scalars: Record<string, number> = {};
  for (const name of new Set(logs.map(({ attribute }) => attribute))) {
    const own = logs.filter(({ attribute }) => attribute === name);
    const mean = (value: (log: StepLog) => number): number =>
      own.reduce((sum, log) => sum + value(log), 0) / own.length;
    scalars[`${name}/loss`] = mean((log) => log.loss);
    scalars[`${name}/direction`] = mean((log) => log.direction);
    scalars[`${name}/consistency`] = mean((log) => log.consistency);
    scalars[`${name}/shortfall`] = mean((log) => log.shortfall);
    own[0]?.pairCosine.forEach((_, pair) => {
      scalars[`${name}/cosine/${pair}`] = mean((log) => log.pairCosine[pair] as number);
    });
  }
  return scalars;
}
