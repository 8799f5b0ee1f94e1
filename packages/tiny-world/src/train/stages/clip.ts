/**
 * Stages `clip` and `vision`: text and vision towers trained on picture-caption pairs (Radford et al., 2021). First
 * both together; then the text tower is locked, because the denoiser is trained on its states, and the vision
 * tower goes on (Zhai et al., "LiT", 2022). Pairs of a batch with the same caption are all right answers: with a
 * small world they are frequent.
 */
import { PhiloxSequence, streamId } from '@equipoise/core';
import { CLIPModel, type ClipTokenizer } from '@equipoise/models';
import * as tf from '@tensorflow/tfjs-core';
import type { Dataset } from '../../data/dataset.js';
import { pictureTensor } from '../../data/pictures.js';
import { clipConfig } from '../../model/architecture.js';
import { drawCaption } from '../../world/caption.js';
import { BatchOrder } from '../batches.js';
import { type TrainingStage, trainStage } from '../loop.js';
import { clipRetrieval } from '../measurements.js';
import { outcomeOf, type StageContext, type StageOutcome, tokenRows } from '../stage-context.js';
import { TrainedWeights } from '../trained-weights.js';

type ClipInputs = { pixels: tf.Tensor4D; ids: Int32Array[]; targets: tf.Tensor2D };

/** Captions of the pictures `indices` at an update. */
type Captions = (indices: readonly number[], step: number) => string[];

/** Trains both towers and saves `clip/clip.safetensors`. */
export async function trainClip(context: StageContext): Promise<StageOutcome> {
  const { recipe } = context;
  const data = await context.dataset('train');
  const model = CLIPModel.random(clipConfig(await context.vocabularyIds()), recipe.seed, { storage: 'f32' });
  const captions: Captions = (indices) => indices.map((index) => data.samples[index]!.caption);
  return contrast(context, 'clip', model, data, captions, () => true);
}

/**
 * Trains the vision tower and both projections on, with the text tower locked and a new caption for every picture
 * at every update; saves `vision/vision.safetensors`, the whole CLIP.
 */
export async function trainVision(context: StageContext): Promise<StageOutcome> {
  const { seed } = context.recipe;
  const data = await context.dataset('train');
  const { state } = await context.loadResult('clip', 'clip');
  const config = clipConfig(await context.vocabularyIds());
  const model = await CLIPModel.load(config, state, { storage: 'f32' });
  const captions: Captions = (indices, step) =>
    indices.map((index) => {
      const random = new PhiloxSequence(seed, streamId('tiny-world', 'caption', step, index));
      return drawCaption(random, data.samples[index]!.labels);
    });
  return contrast(context, 'vision', model, data, captions, (name) => !name.startsWith('text_model.'));
}

async function contrast(
  context: StageContext,
  name: 'clip' | 'vision',
  model: CLIPModel,
  data: Dataset,
  captions: Captions,
  select: (name: string) => boolean,
): Promise<StageOutcome> {
  const { recipe } = context;
  const { steps, batch, optimizer, average, checkpointEvery } = recipe[name];
  const test = await context.dataset('test');
  const tokenizer = await context.tokenizer();
  const weights = new TrainedWeights(model.setTrainable(select), average);
  const order = new BatchOrder(recipe.seed, name, data.samples.length, batch);
  const stage: TrainingStage<ClipInputs> = {
    name,
    steps,
    identity: context.identity(name),
    optimizer,
    weights,
    inputs: (step) => clipInputs(tokenizer, data, order.at(step), captions(order.at(step), step)),
    loss: ({ pixels, ids, targets }) => contrastiveLoss(model.forward(ids, pixels).logitsPerImage, targets),
    inspect: async () => ({ retrieval: await clipRetrieval(model, tokenizer, test) }),
  };
  const result = await trainStage(stage, await context.loopOptions(name, checkpointEvery));
  if (result.finished) {
    await weights.withAverage(async () => context.saveResult(name, name, model.stateDict()));
  }
  weights.dispose();
  model.dispose();
  return outcomeOf(result);
}

function clipInputs(
  tokenizer: ClipTokenizer,
  data: Dataset,
  indices: readonly number[],
  captions: readonly string[],
): ClipInputs {
  return {
    pixels: pictureTensor(data.images, indices),
    ids: tokenRows(tokenizer, captions),
    targets: sameCaption(captions),
  };
}

/** Row-normalised matrix of which captions of a batch are equal [B, B]; symmetric before normalisation. */
function sameCaption(captions: readonly string[]): tf.Tensor2D {
  const values = new Float32Array(captions.length ** 2);
  captions.forEach((caption, row) => {
    const equal = captions.map((other) => (other === caption ? 1 : 0));
    const total = equal.reduce<number>((sum, value) => sum + value, 0);
    values.set(
      equal.map((value) => value / total),
      row * captions.length,
    );
  });
  return tf.tensor2d(values, [captions.length, captions.length]);
}

/** Symmetric cross-entropy of the similarities [B, B] against the right answers. */
function contrastiveLoss(logits: tf.Tensor2D, targets: tf.Tensor2D): tf.Scalar {
  const entropy = (x: tf.Tensor): tf.Tensor => tf.neg(tf.sum(tf.mul(targets, tf.logSoftmax(x, -1))));
  const both = tf.add(entropy(logits), entropy(tf.transpose(logits)));
  return tf.div(both, 2 * logits.shape[0]) as tf.Scalar;
}
