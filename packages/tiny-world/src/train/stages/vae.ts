/**
 * Stage `vae`: AutoencoderKL from scratch. Most steps see random crops, which cost a quarter of a picture and
 * teach as much, the network being convolutional; the last ones see whole pictures, because its group norms
 * depend on the extent.
 */
import { randomNormal } from '@equipoise/backend';
import { PhiloxSequence, streamId, writeFileAtomic } from '@equipoise/core';
import { AutoencoderKL } from '@equipoise/models';
import * as tf from '@tensorflow/tfjs-core';
import type { Dataset } from '../../data/dataset.js';
import { gridPng, pictureBytes, pictureTensor } from '../../data/pictures.js';
import { LATENT_CHANNELS, vaeConfig } from '../../model/architecture.js';
import { IMAGE_SIZE } from '../../world/attributes.js';
import { IMAGE_BYTES } from '../../world/render.js';
import { BatchOrder } from '../batches.js';
import { type TrainingStage, trainStage } from '../loop.js';
import { reconstruct, reconstructionPsnr } from '../measurements.js';
import type { Recipe } from '../recipe.js';
import { outcomeOf, type StageContext, type StageOutcome } from '../stage-context.js';
import { TrainedWeights } from '../trained-weights.js';

type VaeInputs = { pictures: tf.Tensor4D; noise: tf.Tensor4D };

const ENCODE_BATCH = 64;
/** Crops start on multiples of the autoencoder's downscale, so that they meet the grid pictures have. */
const GRID = 4;

/** Trains and saves `vae/vae.safetensors`; its metadata holds the scaling factor. */
export async function trainVae(context: StageContext): Promise<StageOutcome> {
  const { recipe } = context;
  const [data, test] = [await context.dataset('train'), await context.dataset('test')];
  const model = AutoencoderKL.random(vaeConfig(1), recipe.seed, { storage: 'f32' });
  const weights = new TrainedWeights(
    model.setTrainable(() => true),
    recipe.vae.average,
  );
  const order = new BatchOrder(recipe.seed, 'vae', data.samples.length, recipe.vae.batch);
  const stage: TrainingStage<VaeInputs> = {
    name: 'vae',
    steps: recipe.vae.steps,
    identity: context.identity('vae'),
    optimizer: recipe.vae.optimizer,
    weights,
    inputs: (step) => vaeInputs(recipe, data, order.at(step), step),
    loss: (inputs) => reconstructionLoss(model, inputs, recipe),
    inspect: async (_, folder) => inspect(model, test, folder),
  };
  const result = await trainStage(stage, await context.loopOptions('vae', recipe.vae.checkpointEvery));
  if (result.finished) {
    await weights.withAverage(async () => {
      const deviation = await latentDeviation(model, data);
      await context.saveResult('vae', 'vae', model.stateDict(), { scaling_factor: String(1 / deviation) });
    });
  }
  weights.dispose();
  model.dispose();
  return outcomeOf(result);
}

function vaeInputs(recipe: Recipe, data: Dataset, indices: readonly number[], step: number): VaeInputs {
  const { crop, wholeShare, steps, batch } = recipe.vae;
  const whole = step > steps * (1 - wholeShare);
  const side = whole ? IMAGE_SIZE : crop;
  const count = whole ? Math.max(1, Math.round((batch * crop * crop) / IMAGE_SIZE ** 2)) : batch;
  const random = new PhiloxSequence(recipe.seed, streamId('tiny-world', 'crop', step));
  const positions = (IMAGE_SIZE - side) / GRID + 1;
  const pictures = tf.tidy(() => {
    const [top, left] = [random.int(positions) * GRID, random.int(positions) * GRID];
    return tf.slice(
      pictureTensor(data.images, indices.slice(0, count)),
      [0, top, left, 0],
      [count, side, side, 3],
    );
  });
  const latent = side / GRID;
  const noise = randomNormal<tf.Rank.R4>([count, latent, latent, LATENT_CHANNELS], {
    seed: recipe.seed,
    stream: streamId('tiny-world', 'vae-noise', step),
  });
  return { pictures, noise };
}

/** Mean absolute + mean squared error, the same of image gradients (absolute), and a little KL. */
function reconstructionLoss(model: AutoencoderKL, { pictures, noise }: VaeInputs, recipe: Recipe): tf.Scalar {
  const { gradientWeight, klWeight } = recipe.vae;
  const posterior = model.encode(pictures);
  const error = tf.sub(model.decode(posterior.sample(noise)), pictures) as tf.Tensor4D;
  const [count, height, width, channels] = error.shape;
  const down = tf.sub(
    tf.slice(error, [0, 1, 0, 0], [count, height - 1, width, channels]),
    tf.slice(error, [0, 0, 0, 0], [count, height - 1, width, channels]),
  );
  const across = tf.sub(
    tf.slice(error, [0, 0, 1, 0], [count, height, width - 1, channels]),
    tf.slice(error, [0, 0, 0, 0], [count, height, width - 1, channels]),
  );
  const edges = tf.add(tf.mean(tf.abs(down)), tf.mean(tf.abs(across)));
  return tf.addN([
    tf.mean(tf.abs(error)),
    tf.mean(tf.square(error)),
    tf.mul(edges, gradientWeight),
    tf.mul(klToNormal(posterior.moments), klWeight),
  ]) as tf.Scalar;
}

/** Mean over elements of KL(N(mean, exp(logvar)) || N(0, 1)), in nats. */
function klToNormal(moments: tf.Tensor4D): tf.Tensor {
  const [mean, raw] = tf.split(moments, 2, 3) as [tf.Tensor4D, tf.Tensor4D];
  const logVariance = tf.clipByValue(raw, -30, 20);
  const terms = tf.sub(tf.add(tf.square(mean), tf.exp(logVariance)), tf.add(logVariance, 1));
  return tf.mul(tf.mean(terms), 0.5);
}

/** Reconstruction quality, and a picture of 16 test pictures above their reconstructions. */
async function inspect(model: AutoencoderKL, test: Dataset, folder: string): Promise<{ psnr: number }> {
  const decoded = reconstruct(model, test);
  const bytes = await pictureBytes(decoded);
  decoded.dispose();
  const length = 16 * IMAGE_BYTES;
  const sheet = new Uint8Array(2 * length);
  sheet.set(test.images.subarray(0, length));
  sheet.set(bytes.subarray(0, length), length);
  await writeFileAtomic(`${folder}/reconstructions.png`, await gridPng(sheet));
  return { psnr: await reconstructionPsnr(model, test) };
}

/** Standard deviation of the training pictures' latents: its inverse scales them for the denoiser. */
async function latentDeviation(model: AutoencoderKL, data: Dataset): Promise<number> {
  let [sum, squares, count] = [0, 0, 0];
  for (let start = 0; start < Math.min(1024, data.samples.length); start += ENCODE_BATCH) {
    const indices = Array.from(
      { length: ENCODE_BATCH },
      (_, offset) => (start + offset) % data.samples.length,
    );
    const latents = tf.tidy(() => model.encode(pictureTensor(data.images, indices)).mode());
    for (const value of await latents.data()) {
      sum += value;
      squares += value * value;
      count++;
    }
    latents.dispose();
  }
  return Math.sqrt(squares / count - (sum / count) ** 2);
}
