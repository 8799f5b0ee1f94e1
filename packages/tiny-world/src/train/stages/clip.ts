/**
 * Stages `clip` and `vision`: text and vision towers trained on picture-caption pairs (Radford et al., 2021). First
 * both together; then the text tower is locked, because the denoiser is trained on its states, and the vision
 * tower goes on (Zhai et al., "LiT", 2022). Pairs of a batch with the same caption are all right answers: with a
 * small world they are frequent. Beside every caption stands a wrong one.
 *
 * The contrast alone leaves the states of words that it seldom needs almost equal, and the denoiser then cannot tell a
 * star from a diamond; so while the text tower is trained, the state of each word must also tell that word.
 */
import { PhiloxSequence, streamId } from '@equipoise/core';
import { CLIPModel, type ClipTokenizer, unitLength } from '@equipoise/models';
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
import { wrongCaption } from '../wrong-captions.js';

/** `ids`: the captions of the batch, then as many wrong ones. `words`: one-hot tokens [B * 32, V], zero on padding. */
type ClipInputs = { pixels: tf.Tensor4D; ids: Int32Array[]; targets: tf.Tensor2D; words: tf.Tensor2D };

/** Weight that holds the tokens' vectors; words are told by the nearest of them. */
const TOKENS = 'text_model.embeddings.token_embedding.weight';

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
  const trained = model.setTrainable(select);
  const weights = new TrainedWeights(trained, average);
  const tokens = trained.get(TOKENS) as tf.Variable<tf.Rank.R2> | undefined;
  const order = new BatchOrder(recipe.seed, name, data.samples.length, batch);
  const stage: TrainingStage<ClipInputs> = {
    name,
    steps,
    identity: context.identity(name),
    optimizer,
    weights,
    inputs: (step) => {
      const random = new PhiloxSequence(recipe.seed, streamId('tiny-world', `${name}-wrong`, step));
      return clipInputs(random, tokenizer, data, order.at(step), captions(order.at(step), step));
    },
    loss: (inputs) => clipLoss(model, inputs, tokens, recipe.clip.wordWeight),
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
  random: PhiloxSequence,
  tokenizer: ClipTokenizer,
  data: Dataset,
  indices: readonly number[],
  captions: readonly string[],
): ClipInputs {
  const all = [...captions, ...captions.map((caption) => wrongCaption(random, caption))];
  const ids = tokenRows(tokenizer, all);
  const own = ids.slice(0, captions.length);
  // Padding repeats the end token: the first end counts, what follows does not.
  const known = own.flatMap((row) => {
    const end = row.indexOf(tokenizer.eosId);
    return Array.from(row, (id, position) => (position <= end ? id : -1));
  });
  const words = tf.tidy(() =>
    tf.oneHot(tf.tensor1d(known, 'int32'), tokenizer.vocabularySize, 1, 0, 'float32'),
  );
  return {
    pixels: pictureTensor(data.images, indices),
    ids,
    targets: sameCaption(captions, all),
    words: words as tf.Tensor2D,
  };
}

/** Row-normalised matrix of which of `all` captions [N] equal the right ones [B]: [B, N]. */
function sameCaption(captions: readonly string[], all: readonly string[]): tf.Tensor2D {
  const values = new Float32Array(captions.length * all.length);
  captions.forEach((caption, row) => {
    const equal = all.map((other) => (other === caption ? 1 : 0));
    const total = equal.reduce<number>((sum, value) => sum + value, 0);
    values.set(
      equal.map((value) => value / total),
      row * all.length,
    );
  });
  return tf.tensor2d(values, [captions.length, all.length]);
}

/** The contrast of pictures and captions, and, where the text tower is trained, how well its states tell their words. */
function clipLoss(
  model: CLIPModel,
  { pixels, ids, targets, words }: ClipInputs,
  tokens: tf.Tensor2D | undefined,
  wordWeight: number,
): tf.Scalar {
  const { lastHiddenState, pooled } = model.textModel.forward(ids);
  const text = unitLength(model.textProjection.forward(pooled) as tf.Tensor2D);
  const images = unitLength(model.imageFeatures(pixels));
  const similarity = tf.matMul(images, text, false, true);
  const contrast = contrastiveLoss(
    tf.mul(similarity, tf.exp(model.logitScale.value)) as tf.Tensor2D,
    targets,
  );
  if (tokens === undefined) return contrast;
  const [batch, length] = [targets.shape[0], lastHiddenState.shape[1]];
  const states = tf.slice(lastHiddenState, [0, 0, 0], [batch, length, -1]);
  const logits = tf.matMul(tf.reshape(states, [batch * length, -1]), tokens, false, true);
  const entropy = tf.neg(tf.sum(tf.mul(words, tf.logSoftmax(logits, -1))));
  return tf.add(contrast, tf.mul(tf.div(entropy, tf.sum(words)), wordWeight)) as tf.Scalar;
}

/**
 * Mean of the cross-entropies of the similarities [B, N] along rows, over all captions, and along the columns of the
 * batch's own captions, over the pictures.
 */
function contrastiveLoss(logits: tf.Tensor2D, targets: tf.Tensor2D): tf.Scalar {
  const batch = logits.shape[0];
  const entropy = (x: tf.Tensor, wanted: tf.Tensor): tf.Tensor =>
    tf.neg(tf.sum(tf.mul(wanted, tf.logSoftmax(x, -1))));
  const own = tf.slice(targets, [0, 0], [batch, batch]);
  const columns = tf.div(own, tf.sum(own, 1, true));
  const both = tf.add(
    entropy(logits, targets),
    entropy(tf.transpose(tf.slice(logits, [0, 0], [batch, batch])), columns),
  );
  return tf.div(both, 2 * batch) as tf.Scalar;
}
