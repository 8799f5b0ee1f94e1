/**
 * The training loop of every stage: seeded, resumable at any instant, and the same curve however often it was
 * interrupted. Whatever a step depends on is a function of the seed and the step number, or is in the
 * checkpoint.
 */
import { join } from 'node:path';
import {
  EquipoiseError,
  exists,
  isCancelled,
  type JobContext,
  throwIfCancelled,
  writeFileAtomic,
} from '@equipoise/core';
import * as tf from '@tensorflow/tfjs-core';
import { readTensorFile, writeTensorFile } from '../data/tensor-file.js';
import { lossChart } from './loss-curve.js';
import { type RateSchedule, rateAt } from './schedule.js';
import type { TrainedWeights } from './trained-weights.js';

export interface OptimizerSettings {
  readonly rate: RateSchedule;
  readonly beta1: number;
  readonly beta2: number;
  readonly weightDecay: number;
  /** Largest global gradient norm. */
  readonly maxNorm: number;
}

/** What a stage trains, and on what. */
export interface TrainingStage<I extends tf.TensorContainerObject> {
  readonly name: string;
  readonly steps: number;
  /** Everything that decides the result besides the code: a checkpoint made with another is refused. */
  readonly identity: string;
  readonly optimizer: OptimizerSettings;
  readonly weights: TrainedWeights;
  /** Inputs of update `step` (from 1): a function of the step alone. Freed after the update. */
  inputs(step: number): I;
  /** The loss to differentiate, a scalar. */
  loss(inputs: I): tf.Scalar;
  /** Measurements at a checkpoint, made with the averaged weights in place; pictures go into `folder`. */
  inspect?(step: number, folder: string): Promise<Readonly<Record<string, number>>>;
}

export interface LoopOptions extends JobContext {
  /** Folder of the stage inside the run folder; exists. */
  readonly folder: string;
  /** Updates between two checkpoints. */
  readonly checkpointEvery: number;
  /** Stop in good order, with a checkpoint, at the first step that starts after this time (ms since epoch). */
  readonly deadline?: number | undefined;
}

export interface LoopResult {
  /** Updates done, in this session and before. */
  readonly step: number;
  readonly finished: boolean;
  /** Loss of every update so far. */
  readonly losses: Float32Array;
  readonly measurements: Readonly<Record<string, number>>;
}

/** A stage's state in its folder. */
export const CHECKPOINT = 'checkpoint.safetensors';
/** Picture of the loss curve in a stage's folder. */
const LOSS_CHART = 'loss.svg';

/**
 * Trains until the last step, the deadline or cancellation; goes on from the folder's checkpoint if there is one.
 *
 * @throws EquipoiseError `numeric` when the loss is not finite: the last checkpoint stays as it was
 */
export async function trainStage<I extends tf.TensorContainerObject>(
  stage: TrainingStage<I>,
  options: LoopOptions,
): Promise<LoopResult> {
  const losses = new Float32Array(stage.steps);
  let step = await restore(stage, options.folder, losses);
  let measurements: Readonly<Record<string, number>> = {};
  const save = async (): Promise<void> => {
    await checkpoint(stage, options.folder, step, losses);
    if (stage.inspect)
      measurements = await stage.weights.withAverage(async () => stage.inspect!(step, options.folder));
  };
  try {
    while (step < stage.steps && !(options.deadline !== undefined && Date.now() > options.deadline)) {
      throwIfCancelled(options.signal, stage.name);
      losses[step] = await update(stage, step + 1, options.folder);
      step++;
      report(stage, step, losses, measurements, options);
      if (step % options.checkpointEvery === 0 && step < stage.steps) await save();
    }
  } catch (error) {
    if (isCancelled(error)) await checkpoint(stage, options.folder, step, losses);
    throw error;
  }
  await save();
  return { step, finished: step === stage.steps, losses: losses.slice(0, step), measurements };
}

async function update<I extends tf.TensorContainerObject>(
  stage: TrainingStage<I>,
  step: number,
  folder: string,
): Promise<number> {
  const { rate, beta1, beta2, weightDecay, maxNorm } = stage.optimizer;
  const learningRate = rateAt(step, stage.steps, rate);
  const inputs = stage.inputs(step);
  const result = stage.weights.step(() => stage.loss(inputs), {
    step,
    learningRate,
    beta1,
    beta2,
    weightDecay,
    maxNorm,
  });
  const [loss] = await result.loss.data();
  tf.dispose([inputs, result.loss, result.norm]);
  if (loss === undefined || !Number.isFinite(loss)) {
    throw new EquipoiseError('numeric', `${stage.name}: the loss of step ${step} is ${loss}`, {
      hints: [`The last good state is ${join(folder, CHECKPOINT)}.`, 'A lower learning rate may help.'],
    });
  }
  return loss;
}

/** Mean of the last losses, so that the progress line does not jump. */
function recent(losses: Float32Array, step: number, count = 50): number {
  const part = losses.subarray(Math.max(0, step - count), step);
  return part.reduce((sum, loss) => sum + loss, 0) / part.length;
}

function report<I extends tf.TensorContainerObject>(
  stage: TrainingStage<I>,
  step: number,
  losses: Float32Array,
  measurements: Readonly<Record<string, number>>,
  options: LoopOptions,
): void {
  options.onProgress?.({
    task: stage.name,
    done: step,
    total: stage.steps,
    unit: 'update',
    values: { loss: Number(recent(losses, step).toPrecision(4)), ...measurements },
  });
}

async function checkpoint<I extends tf.TensorContainerObject>(
  stage: TrainingStage<I>,
  folder: string,
  step: number,
  losses: Float32Array,
): Promise<void> {
  const done = losses.slice(0, step);
  const tensors = [...(await stage.weights.save()), { name: 'losses', shape: [step], values: done }];
  await writeTensorFile(join(folder, CHECKPOINT), tensors, {
    identity: stage.identity,
    stage: stage.name,
    step: String(step),
  });
  const rows = Array.from(done, (loss, index) => `${index + 1},${loss}`);
  await writeFileAtomic(join(folder, 'loss.csv'), `step,loss\n${rows.join('\n')}\n`);
  if (step > 0) await writeFileAtomic(join(folder, LOSS_CHART), lossChart(stage.name, done));
}

async function restore<I extends tf.TensorContainerObject>(
  stage: TrainingStage<I>,
  folder: string,
  losses: Float32Array,
): Promise<number> {
  const path = join(folder, CHECKPOINT);
  if (!(await exists(path))) return 0;
  const file = await readTensorFile(path);
  const step = Number(file.metadata.step);
  if (!Number.isInteger(step) || step < 0 || step > stage.steps || file.metadata.stage !== stage.name) {
    throw new EquipoiseError(
      'conflict',
      `${path}: expected a checkpoint of stage ${stage.name} of at most ${stage.steps} updates`,
    );
  }
  if (file.metadata.identity !== stage.identity) {
    throw new EquipoiseError(
      'conflict',
      `${path}: expected a checkpoint of this recipe\n  here: ${stage.identity}\n  there: ${file.metadata.identity}`,
      {
        hints: ['Choose another run folder, or remove this stage from the folder to train it anew.'],
      },
    );
  }
  losses.set(file.take('losses', [step]));
  stage.weights.load(file.take);
  return step;
}
