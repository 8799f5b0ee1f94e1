/**
 * Runs the fixture models in bf16 on the native device and prints ||bf16 - f32|| / ||f32||, f32 being the reference
 * library's output: a JSON object by model and output. Run by bf16_errors.py:
 *
 *     node --import tsx --conditions=equipoise-source tools/parity/bf16-errors.ts
 */
import { setPrecision, useEngine } from '@equipoise/backend';
import {
  AutoencoderKL,
  CLIPTextModel,
  CLIPTextModelWithProjection,
  CLIPVisionModel,
  CLIPVisionModelWithProjection,
  UNet2DConditionModel,
} from '@equipoise/models';
import type * as tf from '@tensorflow/tfjs-core';
import { ModelFixture } from '../../packages/models/src/testing/model-fixture.js';

/** Outputs of a fixture's model, by the fixture's keys. */
type Run = (fixture: ModelFixture) => Promise<Record<string, tf.Tensor>>;

const unet: Run = async (fixture) => {
  const model = await UNet2DConditionModel.load(fixture.config, fixture.state());
  const timeIds = fixture.scalars.time_ids as number[][] | undefined;
  const options = timeIds && {
    added: { textEmbeds: fixture.tensor<tf.Tensor2D>('in:text_embeds'), timeIds },
  };
  const timesteps = fixture.scalars.timesteps as number[];
  const sample = fixture.tensor<tf.Tensor4D>('in:sample');
  const context = fixture.tensor<tf.Tensor3D>('in:context');
  return { 'out:sample': model.forward(sample, timesteps, context, options ?? {}) };
};

const vae: Run = async (fixture) => {
  const model = await AutoencoderKL.load(fixture.config, fixture.state());
  return {
    'out:moments': model.encode(fixture.tensor('in:image')).moments,
    'out:decoded': model.decode(fixture.tensor('in:latents')),
  };
};

const text =
  (type: typeof CLIPTextModel | typeof CLIPTextModelWithProjection): Run =>
  async (fixture) => {
    const model = await type.load(fixture.config, fixture.state());
    return { 'out:last': model.forward(fixture.scalars.ids as number[][]).lastHiddenState };
  };

const vision =
  (type: typeof CLIPVisionModel | typeof CLIPVisionModelWithProjection): Run =>
  async (fixture) => {
    const model = await type.load(fixture.config, fixture.state());
    return { 'out:last': model.forward(fixture.tensor('in:pixels')).lastHiddenState };
  };

const RUNS: Readonly<Record<string, Run>> = {
  'unet-sd1': unet,
  'unet-sd2': unet,
  'unet-sdxl': unet,
  vae,
  'clip-text-l': text(CLIPTextModel),
  'clip-text-h': text(CLIPTextModel),
  'clip-text-projected': text(CLIPTextModelWithProjection),
  'clip-vision': vision(CLIPVisionModel),
  'clip-vision-projected': vision(CLIPVisionModelWithProjection),
};

function relativeError(actual: Float32Array, expected: Float32Array): number {
  const squares = (values: Float32Array): number => values.reduce((sum, x) => sum + x * x, 0);
  return Math.sqrt(squares(actual.map((x, i) => x - (expected[i] as number))) / squares(expected));
}

await useEngine('equipoise-cpu');
setPrecision('bf16');
const errors: Record<string, Record<string, number>> = {};
for (const [name, run] of Object.entries(RUNS)) {
  const fixture = new ModelFixture(name);
  errors[name] = {};
  for (const [key, output] of Object.entries(await run(fixture)))
    errors[name][key] = relativeError(await output.data<'float32'>(), fixture.numbers(key));
}
console.log(JSON.stringify(errors));
