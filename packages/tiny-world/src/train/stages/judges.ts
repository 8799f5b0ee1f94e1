/**
 * Stage `judges`: the two classifiers that read attributes off pictures. They see a split of their own, share
 * nothing with CLIP, and their pictures are blurred and made noisy at random, so that a generated picture is not
 * foreign to them.
 */
import { randomNormal } from '@equipoise/backend';
import { PhiloxSequence, streamId } from '@equipoise/core';
import * as tf from '@tensorflow/tfjs-core';
import type { Dataset } from '../../data/dataset.js';
import { pictureTensor } from '../../data/pictures.js';
import {
  type Answers,
  type Head,
  headsLoss,
  headsWidth,
  readVerdicts,
  type Targets,
  targetTensors,
} from '../../judges/heads.js';
import { HEADSHOT_HEADS, headshotAnswers } from '../../judges/headshot-judge.js';
import { JudgeNetwork } from '../../judges/network.js';
import { SCENE_HEADS, sceneAnswers } from '../../judges/scene-judge.js';
import type { WorldLabels } from '../../world/attributes.js';
import { BatchOrder } from '../batches.js';
import { type TrainingStage, trainStage } from '../loop.js';
import { outcomeOf, type StageContext, type StageOutcome } from '../stage-context.js';
import { TrainedWeights } from '../trained-weights.js';

type JudgeInputs = { pictures: tf.Tensor4D; targets: Targets };

/** One of the two judges: its questions, and the answers for a picture of its world (null for the other world). */
export interface JudgeTask {
  readonly name: 'scene' | 'headshot';
  readonly heads: readonly Head[];
  readonly answers: (labels: WorldLabels) => Answers | null;
}

export const JUDGE_TASKS: readonly JudgeTask[] = [
  {
    name: 'scene',
    heads: SCENE_HEADS,
    answers: (labels) => (labels.kind === 'scene' ? sceneAnswers(labels) : null),
  },
  {
    name: 'headshot',
    heads: HEADSHOT_HEADS,
    answers: (labels) => (labels.kind === 'headshot' ? headshotAnswers(labels) : null),
  },
];

const LARGEST_NOISE = 0.12;
const EVALUATION_BATCH = 128;

/** Trains and saves `judges/scene.safetensors` and `judges/headshot.safetensors`. */
export async function trainJudges(context: StageContext): Promise<StageOutcome> {
  const measurements: Record<string, number> = {};
  for (const task of JUDGE_TASKS) {
    const outcome = await trainJudge(context, task);
    for (const [name, value] of Object.entries(outcome.measurements))
      measurements[`${task.name} ${name}`] = value;
    if (!outcome.finished) return { finished: false, measurements };
  }
  return { finished: true, measurements };
}

async function trainJudge(context: StageContext, task: JudgeTask): Promise<StageOutcome> {
  const { recipe } = context;
  const { steps, batch, optimizer, average, checkpointEvery } = recipe.judges;
  const [data, test] = [await context.dataset('judge'), await context.dataset('test')];
  const known = answered(data, task);
  const heldOut = answered(test, task);
  const network = JudgeNetwork.random(headsWidth(task.heads), recipe.seed);
  const weights = new TrainedWeights(
    network.setTrainable(() => true),
    average,
  );
  const order = new BatchOrder(recipe.seed, `judge ${task.name}`, known.length, batch);
  const stage: TrainingStage<JudgeInputs> = {
    name: `${task.name} judge`,
    steps,
    identity: context.identity('judges'),
    optimizer,
    weights,
    inputs(step) {
      const rows = order.at(step).map((index) => known[index]!);
      const pictures = disturbed(
        data,
        rows.map((row) => row.index),
        recipe.seed,
        task.name,
        step,
      );
      return {
        pictures,
        targets: targetTensors(
          task.heads,
          rows.map((row) => row.answers),
        ),
      };
    },
    loss: ({ pictures, targets }) => headsLoss(task.heads, network.forward(pictures), targets),
    inspect: async () => {
      const scores = await judgeAccuracy(network, task, test, heldOut);
      return { accuracy: Math.min(...Object.values(scores)) };
    },
  };
  const result = await trainStage(stage, await context.loopOptions(`judges/${task.name}`, checkpointEvery));
  if (result.finished) {
    await weights.withAverage(async () => context.saveResult('judges', task.name, network.stateDict()));
  }
  weights.dispose();
  network.dispose();
  return outcomeOf(result);
}

interface AnsweredPicture {
  readonly index: number;
  readonly answers: Answers;
}

/** The pictures of a data set that a judge is responsible for. */
export function answered(data: Dataset, task: JudgeTask): AnsweredPicture[] {
  return data.samples.flatMap((sample, index) => {
    const answers = task.answers(sample.labels);
    return answers === null ? [] : [{ index, answers }];
  });
}

/** Half of the batches are blurred, all get noise of a random strength. */
function disturbed(
  data: Dataset,
  indices: readonly number[],
  seed: number,
  name: string,
  step: number,
): tf.Tensor4D {
  const random = new PhiloxSequence(seed, streamId('tiny-world', 'disturb', name, step));
  const blur = random.uniform() < 0.5 ? random.uniform() : 0;
  const strength = random.uniform() * LARGEST_NOISE;
  return tf.tidy(() => {
    const pictures = pictureTensor(data.images, indices);
    const smooth = blur === 0 ? pictures : mix(pictures, tf.avgPool(pictures, 3, 1, 'same'), blur);
    const noise = randomNormal<tf.Rank.R4>(pictures.shape, {
      seed,
      stream: streamId('tiny-world', 'judge-noise', name, step),
    });
    return tf.add(smooth, tf.mul(noise, strength)) as tf.Tensor4D;
  });
}

function mix(a: tf.Tensor4D, b: tf.Tensor4D, share: number): tf.Tensor4D {
  return tf.add(tf.mul(a, 1 - share), tf.mul(b, share)) as tf.Tensor4D;
}

/** Logits of one judge for pictures given as bytes: one row each. */
export async function judgeLogits(
  network: JudgeNetwork,
  images: Uint8Array,
  indices: readonly number[],
): Promise<Float32Array[]> {
  const rows: Float32Array[] = [];
  for (let start = 0; start < indices.length; start += EVALUATION_BATCH) {
    const part = indices.slice(start, start + EVALUATION_BATCH);
    const logits = tf.tidy(() => network.forward(pictureTensor(images, part)));
    const values = (await logits.data()) as Float32Array;
    logits.dispose();
    part.forEach((_, row) => {
      rows.push(values.slice(row * network.outputs, (row + 1) * network.outputs));
    });
  }
  return rows;
}

/**
 * Accuracy of a judge by question, over pictures with known answers. Questions that differ only in the shape
 * they are about are counted together ("count", "color", "texture"); a position is right within 4 pixels.
 */
export async function judgeAccuracy(
  network: JudgeNetwork,
  task: JudgeTask,
  data: Dataset,
  pictures: readonly AnsweredPicture[],
): Promise<Record<string, number>> {
  const logits = await judgeLogits(
    network,
    data.images,
    pictures.map((picture) => picture.index),
  );
  const counts = new Map<string, { right: number; asked: number }>();
  pictures.forEach((picture, row) => {
    const verdicts = readVerdicts(task.heads, logits[row] as Float32Array);
    task.heads.forEach((head, index) => {
      const answer = picture.answers[index] ?? null;
      if (answer === null) return;
      const question = head.name.split(' ').at(-1) as string;
      const count = counts.get(question) ?? { right: 0, asked: 0 };
      counts.set(question, count);
      count.asked++;
      if (isRight(verdicts[index]!, answer)) count.right++;
    });
  });
  return Object.fromEntries([...counts].map(([question, { right, asked }]) => [question, right / asked]));
}

/** Largest error of a position that counts as right, as a share of the picture's side. */
const POSITION_TOLERANCE = 4 / 64;

function isRight(
  verdict: { choice: number; values: readonly number[] },
  answer: number | readonly number[],
): boolean {
  if (typeof answer === 'number') return verdict.choice === answer;
  return (
    Math.hypot(...answer.map((value, axis) => value - (verdict.values[axis] as number))) <= POSITION_TOLERANCE
  );
}
