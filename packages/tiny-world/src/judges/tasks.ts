/** The two judges side by side: how each is built, taught and scored. */
import type { Rows } from '@equipoise/metrics';
import * as tf from '@tensorflow/tfjs-core';
import { pictureTensor } from '../data/pictures.js';
import type { HeadshotLabels, SceneLabels, WorldLabels } from '../world/attributes.js';
import { IMAGE_BYTES } from '../world/render.js';
import { headsLoss, oneHotTargets } from './heads.js';
import {
  HEADSHOT_ATTRIBUTES,
  HEADSHOT_HEADS,
  HEADSHOT_OUTPUTS,
  type HeadshotAttribute,
  headshotAnswers,
  readHeadshot,
} from './headshot-judge.js';
import type { Extent, JudgeNetwork } from './network.js';
import {
  count,
  readScene,
  SCENE_OUTPUTS,
  type SceneTargets,
  sceneLoss,
  sceneTargets,
  type Tally,
  tallyScene,
} from './scene-judge.js';

export interface JudgeTask {
  readonly name: WorldLabels['kind'];
  readonly outputs: number;
  readonly extent: Extent;
  /** Whether pictures may be moved and mirrored in training: not where answers name places. */
  readonly movable: boolean;
  /** What a batch of pictures of the task's world should give. */
  targets(labels: readonly WorldLabels[]): tf.NamedTensorMap;
  loss(output: tf.Tensor, targets: tf.NamedTensorMap): tf.Scalar;
  /** Counts right answers to one picture. */
  tally(tally: Tally, output: Float32Array, labels: WorldLabels): void;
}

const scene: JudgeTask = {
  name: 'scene',
  outputs: SCENE_OUTPUTS,
  extent: 'cell',
  movable: false,
  targets: (labels) => sceneTargets(labels as readonly SceneLabels[]),
  loss: (output, targets) => sceneLoss(output, targets as SceneTargets),
  tally: (tally, output, labels) => tallyScene(tally, readScene(output), labels as SceneLabels),
};

const headshot: JudgeTask = {
  name: 'headshot',
  outputs: HEADSHOT_OUTPUTS,
  extent: 'picture',
  movable: true,
  targets: (labels) => ({
    classes: oneHotTargets(
      HEADSHOT_HEADS,
      labels.map((one) => headshotAnswers(one as HeadshotLabels)),
    ),
  }),
  loss: (output, targets) => headsLoss(HEADSHOT_HEADS, output as tf.Tensor2D, targets.classes as tf.Tensor2D),
  tally: (tally, output, labels) => {
    const seen = readHeadshot(output).labels;
    for (const name of Object.keys(HEADSHOT_ATTRIBUTES) as HeadshotAttribute[]) {
      count(tally, name, seen[name] === (labels as HeadshotLabels)[name]);
    }
  },
};

export const JUDGE_TASKS: readonly JudgeTask[] = [scene, headshot];

const EVALUATION_BATCH = 128;

/** One row of numbers for each picture, computed in batches. */
async function rowsOf(
  images: Uint8Array,
  indices: readonly number[],
  compute: (pictures: tf.Tensor4D) => tf.Tensor,
): Promise<Float32Array[]> {
  const rows: Float32Array[] = [];
  for (let start = 0; start < indices.length; start += EVALUATION_BATCH) {
    const part = indices.slice(start, start + EVALUATION_BATCH);
    const output = tf.tidy(() => compute(pictureTensor(images, part)));
    const values = (await output.data()) as Float32Array;
    output.dispose();
    const length = values.length / part.length;
    part.forEach((_, row) => {
      rows.push(values.slice(row * length, (row + 1) * length));
    });
  }
  return rows;
}

/** The judge's output for pictures given as bytes: one row each. */
export function judgeOutputs(
  network: JudgeNetwork,
  images: Uint8Array,
  indices: readonly number[],
): Promise<Float32Array[]> {
  return rowsOf(images, indices, (pictures) => network.forward(pictures));
}

/** The judge's last features of all pictures: what distances between sets of pictures are measured in. */
export async function judgeFeatures(network: JudgeNetwork, images: Uint8Array): Promise<Rows> {
  const count = images.length / IMAGE_BYTES;
  const indices = Array.from({ length: count }, (_, i) => i);
  const rows = await rowsOf(images, indices, (pictures) => network.features(pictures));
  const width = rows[0]?.length ?? 0;
  const data = new Float32Array(count * width);
  for (const [i, row] of rows.entries()) data.set(row, i * width);
  return { count, width, data };
}

/** Pictures with labels, as a data set holds them. */
interface LabelledPictures {
  readonly samples: readonly { readonly labels: WorldLabels }[];
  readonly images: Uint8Array;
}

/** Indices of the pictures a judge is responsible for. */
export function picturesOf(data: LabelledPictures, task: JudgeTask): number[] {
  return data.samples.flatMap(({ labels }, index) => (labels.kind === task.name ? [index] : []));
}

/** Accuracy of a judge by question, over all pictures of its world in a data set. */
export async function judgeAccuracy(
  network: JudgeNetwork,
  task: JudgeTask,
  data: LabelledPictures,
): Promise<Record<string, number>> {
  const indices = picturesOf(data, task);
  const outputs = await judgeOutputs(network, data.images, indices);
  const tally: Tally = new Map();
  indices.forEach((index, row) => {
    task.tally(tally, outputs[row]!, data.samples[index]!.labels);
  });
  return Object.fromEntries([...tally].map(([question, { right, asked }]) => [question, right / asked]));
}
