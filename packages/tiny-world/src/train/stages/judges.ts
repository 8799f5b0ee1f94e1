/**
 * Stage `judges`: the two classifiers that read attributes off pictures. They see a split of their own, share
 * nothing with CLIP, and their pictures are blurred and made noisy at random, so that a generated picture is not
 * foreign to them.
 */
import { randomNormal } from '@equipoise/backend';
import { PhiloxSequence, streamId } from '@equipoise/core';
import * as tf from '@tensorflow/tfjs-core';
import type { Dataset } from '../../data/dataset.js';
import { movedPictures, pictureTensor } from '../../data/pictures.js';
import { JudgeNetwork } from '../../judges/network.js';
import { JUDGE_TASKS, type JudgeTask, judgeAccuracy } from '../../judges/tasks.js';
import { BatchOrder } from '../batches.js';
import { type TrainingStage, trainStage } from '../loop.js';
import { outcomeOf, type StageContext, type StageOutcome } from '../stage-context.js';
import { TrainedWeights } from '../trained-weights.js';

type JudgeInputs = { pictures: tf.Tensor4D; targets: tf.NamedTensorMap };

const LARGEST_NOISE = 0.1;
/** Pixels. */
const LARGEST_SHIFT = 3;

/** Trains and saves `judges/scene.safetensors` and `judges/headshot.safetensors`. */
export async function trainJudges(context: StageContext): Promise<StageOutcome> {
  const measurements: Record<string, number> = {};
  for (const task of JUDGE_TASKS) {
    const outcome = await trainJudge(context, task);
    for (const [name, value] of Object.entries(outcome.measurements)) {
      measurements[`${task.name} ${name}`] = value;
    }
    if (!outcome.finished) return { finished: false, measurements };
  }
  return { finished: true, measurements };
}

async function trainJudge(context: StageContext, task: JudgeTask): Promise<StageOutcome> {
  const { recipe } = context;
  const { steps, batch, optimizer, average, checkpointEvery } = recipe.judges;
  const [data, test] = [await context.dataset('judge', task.name), await context.dataset('test')];
  const network = JudgeNetwork.random(task.outputs, task.extent, recipe.seed);
  const weights = new TrainedWeights(
    network.setTrainable(() => true),
    average,
  );
  const order = new BatchOrder(recipe.seed, `judge ${task.name}`, data.samples.length, batch);
  const stage: TrainingStage<JudgeInputs> = {
    name: `${task.name} judge`,
    steps,
    identity: context.identity('judges'),
    optimizer,
    weights,
    inputs(step) {
      const indices = order.at(step);
      return {
        pictures: disturbed(data, indices, recipe.seed, task, step),
        targets: task.targets(indices.map((index) => data.samples[index]!.labels)),
      };
    },
    loss: (inputs) => task.loss(network.forward(inputs.pictures), inputs.targets),
    inspect: () => judgeAccuracy(network, task, test),
  };
  const folder = `judges/${task.name}`;
  const result = await trainStage(stage, await context.loopOptions(folder, checkpointEvery));
  if (result.finished) {
    await weights.withAverage(async () => context.saveResult('judges', task.name, network.stateDict()));
  }
  weights.dispose();
  network.dispose();
  return outcomeOf(result);
}

/** Moved and mirrored where the task allows it; half of the batches are blurred, all get noise of a random strength. */
function disturbed(
  data: Dataset,
  indices: readonly number[],
  seed: number,
  { name, movable }: JudgeTask,
  step: number,
): tf.Tensor4D {
  const random = new PhiloxSequence(seed, streamId('tiny-world', 'disturb', name, step));
  const shift = (): number => random.int(2 * LARGEST_SHIFT + 1) - LARGEST_SHIFT;
  const movements = indices.map(() => ({ right: shift(), down: shift(), flip: random.uniform() < 0.5 }));
  const blur = random.uniform() < 0.5 ? random.uniform() : 0;
  const strength = random.uniform() * LARGEST_NOISE;
  return tf.tidy(() => {
    const pictures = movable
      ? pictureTensor(
          movedPictures(data.images, indices, movements),
          indices.map((_, row) => row),
        )
      : pictureTensor(data.images, indices);
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
