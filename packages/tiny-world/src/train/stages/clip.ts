/**
 * Stage `clip`: text and vision towers trained together on picture-caption pairs (Radford et al., 2021). Pairs
 * of a batch with the same caption are all right answers: with a small world they are frequent.
 */
import { CLIPModel } from '@equipoise/models';
import * as tf from '@tensorflow/tfjs-core';
import { pictureTensor } from '../../data/pictures.js';
import { clipConfig } from '../../model/architecture.js';
import { BatchOrder } from '../batches.js';
import { type TrainingStage, trainStage } from '../loop.js';
import { clipRetrieval } from '../measurements.js';
import { outcomeOf, type StageContext, type StageOutcome, tokenRows } from '../stage-context.js';
import { TrainedWeights } from '../trained-weights.js';

type ClipInputs = { pixels: tf.Tensor4D; ids: Int32Array[]; targets: tf.Tensor2D };

/** Trains and saves `clip/clip.safetensors`. */
export async function trainClip(context: StageContext): Promise<StageOutcome> {
  const { recipe } = context;
  const [data, test] = [await context.dataset('train'), await context.dataset('test')];
  const tokenizer = await context.tokenizer();
  const rows = tokenRows(
    tokenizer,
    data.samples.map((sample) => sample.caption),
  );
  const model = CLIPModel.random(clipConfig(await context.vocabularyIds()), recipe.seed, { storage: 'f32' });
  const weights = new TrainedWeights(
    model.setTrainable(() => true),
    recipe.clip.average,
  );
  const order = new BatchOrder(recipe.seed, 'clip', data.samples.length, recipe.clip.batch);
  const stage: TrainingStage<ClipInputs> = {
    name: 'clip',
    steps: recipe.clip.steps,
    identity: context.identity('clip'),
    optimizer: recipe.clip.optimizer,
    weights,
    inputs(step) {
      const indices = order.at(step);
      return {
        pixels: pictureTensor(data.images, indices),
        ids: indices.map((index) => rows[index] as Int32Array),
        targets: sameCaption(indices.map((index) => (data.samples[index] as { caption: string }).caption)),
      };
    },
    loss: ({ pixels, ids, targets }) => contrastiveLoss(model.forward(ids, pixels).logitsPerImage, targets),
    inspect: async () => ({ retrieval: await clipRetrieval(model, tokenizer, test) }),
  };
  const result = await trainStage(stage, await context.loopOptions('clip', recipe.clip.checkpointEvery));
  if (result.finished) {
    await weights.withAverage(async () => context.saveResult('clip', 'clip', model.stateDict()));
  }
  weights.dispose();
  model.dispose();
  return outcomeOf(result);
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
