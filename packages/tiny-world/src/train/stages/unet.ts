/**
 * Stage `unet`: the denoiser, on the latents of both worlds. Text encoder and autoencoder are frozen; latents
 * are encoded once and kept.
 */
import { randomNormal } from '@equipoise/backend';
import { exists, PhiloxSequence, streamId, writeFileAtomic } from '@equipoise/core';
import { parseSchedulerConfig, type Schedule, scheduleOf } from '@equipoise/diffusion';
import type { AutoencoderKL, CLIPTextModel, UNet2DConditionModel } from '@equipoise/models';
import * as tf from '@tensorflow/tfjs-core';
import type { Dataset } from '../../data/dataset.js';
import { gridPng, pictureTensor } from '../../data/pictures.js';
import { readTensorFile, writeTensorFile } from '../../data/tensor-file.js';
import { LATENT_CHANNELS, LATENT_SIZE, schedulerConfig } from '../../model/architecture.js';
import { generate } from '../../model/generate.js';
import { BatchOrder } from '../batches.js';
import { type TrainingStage, trainStage } from '../loop.js';
import { disposePipeline, runPipeline } from '../pipeline.js';
import type { Recipe } from '../recipe.js';
import { outcomeOf, type StageContext, type StageOutcome, tokenRows } from '../stage-context.js';
import { TrainedWeights } from '../trained-weights.js';

type UNetInputs = {
  noisy: tf.Tensor4D;
  noise: tf.Tensor4D;
  context: tf.Tensor3D;
  weight: tf.Tensor1D;
  timesteps: number[];
};

const LATENT_LENGTH = LATENT_SIZE * LATENT_SIZE * LATENT_CHANNELS;
const ENCODE_BATCH = 64;

/** Prompts of the picture that each checkpoint leaves. */
export const SAMPLE_PROMPTS: readonly string[] = [
  'a red circle',
  'a blue square',
  'a green star',
  'a yellow heart',
  'a purple triangle',
  'an orange cross',
  'a pink diamond',
  'a brown crescent',
  'a red circle and a blue square',
  'a green triangle and a yellow star',
  'a blue heart and an orange cross',
  'a purple diamond and a red star',
  'a striped blue circle',
  'a metallic green heart',
  'a circle on the left of a star',
  'two red squares',
  ...Array.from({ length: 8 }, () => 'a headshot of a person'),
  ...Array.from({ length: 4 }, () => 'a headshot of a person with eyeglasses'),
  ...Array.from({ length: 2 }, () => 'a headshot of a person without eyeglasses'),
  ...Array.from({ length: 2 }, () => 'a headshot of a person with dark skin'),
];

/** Trains the denoiser; saves `unet/unet.safetensors`, also while it is unfinished. */
export async function trainUNet(context: StageContext): Promise<StageOutcome> {
  const { recipe } = context;
  const { steps, batch, optimizer, average, checkpointEvery } = recipe.unet;
  const data = await context.dataset('train');
  const pipeline = await runPipeline(context, 'fresh');
  const model = pipeline.parts;
  const latents = await encodeAll(context, model.vae, data);
  const rows = tokenRows(
    model.tokenizer,
    data.samples.map((sample) => sample.caption),
  );
  const [empty] = tokenRows(model.tokenizer, ['']) as [Int32Array];
  const weights = new TrainedWeights(
    model.unet.setTrainable(() => true),
    average,
  );
  const order = new BatchOrder(recipe.seed, 'unet', data.samples.length, batch);
  const schedule = scheduleOf(parseSchedulerConfig(schedulerConfig()).config);
  const material = { recipe, schedule, latents, rows, empty, text: model.textEncoder };
  const stage: TrainingStage<UNetInputs> = {
    name: 'unet',
    steps,
    identity: context.identity('unet'),
    optimizer,
    weights,
    inputs: (step) => unetInputs(material, order.at(step), step),
    loss: (inputs) => noiseLoss(model.unet, inputs),
    inspect: async (step, folder) => {
      const progress = { step: String(step), steps: String(steps) };
      await context.saveResult('unet', 'unet', model.unet.stateDict(), progress);
      const images = await generate(pipeline, SAMPLE_PROMPTS, { seed: recipe.seed, steps: 25, guidance: 4 });
      await writeFileAtomic(`${folder}/samples.png`, await gridPng(images));
      return {};
    },
  };
  const result = await trainStage(stage, await context.loopOptions('unet', checkpointEvery));
  weights.dispose();
  disposePipeline(pipeline);
  return outcomeOf(result);
}

/** Scaled latents of all pictures [N, 16 * 16 * 4], encoded once and kept in the stage's folder. */
async function encodeAll(context: StageContext, vae: AutoencoderKL, data: Dataset): Promise<Float32Array> {
  const count = data.samples.length;
  const path = `${await context.folder('unet')}/latents.safetensors`;
  if (await exists(path)) return (await readTensorFile(path)).take('latents', [count, LATENT_LENGTH]);
  const latents = new Float32Array(count * LATENT_LENGTH);
  for (let start = 0; start < count; start += ENCODE_BATCH) {
    const indices = Array.from(
      { length: Math.min(ENCODE_BATCH, count - start) },
      (_, offset) => start + offset,
    );
    const part = tf.tidy(() => vae.toModelLatents(vae.encode(pictureTensor(data.images, indices)).mode()));
    latents.set(await part.data(), start * LATENT_LENGTH);
    part.dispose();
    context.job.onProgress?.({ task: 'encode', done: start + indices.length, total: count, unit: 'image' });
  }
  await writeTensorFile(path, [{ name: 'latents', shape: [count, LATENT_LENGTH], values: latents }]);
  return latents;
}

interface Material {
  readonly recipe: Recipe;
  readonly schedule: Schedule;
  readonly latents: Float32Array;
  readonly rows: readonly Int32Array[];
  readonly empty: Int32Array;
  readonly text: CLIPTextModel;
}

function unetInputs(material: Material, indices: readonly number[], step: number): UNetInputs {
  const { recipe, schedule, latents, rows, empty, text } = material;
  const { captionDropout, snrClamp } = recipe.unet;
  const batch = indices.length;
  const random = new PhiloxSequence(recipe.seed, streamId('tiny-world', 'unet', step));
  // One timestep from each of `batch` equal ranges: the loss of a batch varies less than with independent draws.
  const range = schedule.alphasCumprod.length / batch;
  const timesteps = indices.map((_, row) => Math.floor((row + random.uniform()) * range));
  const ids = indices.map((index) =>
    random.uniform() < captionDropout ? empty : (rows[index] as Int32Array),
  );
  const clean = new Float32Array(batch * LATENT_LENGTH);
  indices.forEach((index, row) => {
    clean.set(latents.subarray(index * LATENT_LENGTH, (index + 1) * LATENT_LENGTH), row * LATENT_LENGTH);
  });
  const alphas = timesteps.map((t) => schedule.alphasCumprod[t] as number);
  const noise = randomNormal<tf.Rank.R4>([batch, LATENT_SIZE, LATENT_SIZE, LATENT_CHANNELS], {
    seed: recipe.seed,
    stream: streamId('tiny-world', 'unet-noise', step),
  });
  const [noisy, context] = tf.tidy(() => {
    const factor = (values: number[]): tf.Tensor4D => tf.tensor4d(values, [batch, 1, 1, 1]);
    const signal = tf.mul(tf.tensor4d(clean, noise.shape), factor(alphas.map(Math.sqrt)));
    const added = tf.mul(noise, factor(alphas.map((alpha) => Math.sqrt(1 - alpha))));
    return [tf.add(signal, added) as tf.Tensor4D, text.forward(ids).lastHiddenState] as const;
  });
  const ratios = alphas.map((alpha) => alpha / (1 - alpha));
  const weight = tf.tensor1d(ratios.map((ratio) => Math.min(ratio, snrClamp) / ratio));
  return { noisy, noise, context, weight, timesteps };
}

/** Mean over pictures of the weighted squared error of the predicted noise. */
function noiseLoss(
  unet: UNet2DConditionModel,
  { noisy, noise, context, weight, timesteps }: UNetInputs,
): tf.Scalar {
  const predicted = unet.forward(noisy, timesteps, context);
  const errors = tf.mean(tf.square(tf.sub(predicted, noise)), [1, 2, 3]);
  return tf.mean(tf.mul(errors, weight)) as tf.Scalar;
}
