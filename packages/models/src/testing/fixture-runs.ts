/**
 * The fixture models, loaded and run: what tests and tools/parity compare with the reference's outputs.
 */
import type * as tf from '@tensorflow/tfjs-core';
import {
  AutoencoderKL,
  CLIPTextModel,
  CLIPTextModelWithProjection,
  CLIPVisionModel,
  CLIPVisionModelWithProjection,
  UNet2DConditionModel,
} from '../index.js';
import type { StateDict } from '../state-dict.js';
import type { ModelFixture } from './model-fixture.js';

/** Outputs of a fixture's model with the weights of `state`, by the fixture's keys. */
export type FixtureRun = (fixture: ModelFixture, state: StateDict) => Promise<Record<string, tf.Tensor>>;

const unet: FixtureRun = async (fixture, state) => {
  const model = await UNet2DConditionModel.load(fixture.config, state);
  const timeIds = fixture.scalars.time_ids as number[][] | undefined;
  const options = timeIds && {
    added: { textEmbeds: fixture.tensor<tf.Tensor2D>('in:text_embeds'), timeIds },
  };
  const timesteps = fixture.scalars.timesteps as number[];
  const sample = fixture.tensor<tf.Tensor4D>('in:sample');
  const context = fixture.tensor<tf.Tensor3D>('in:context');
  return { 'out:sample': model.forward(sample, timesteps, context, options ?? {}) };
};

const vae: FixtureRun = async (fixture, state) => {
  const model = await AutoencoderKL.load(fixture.config, state);
  return {
    'out:moments': model.encode(fixture.tensor('in:image')).moments,
    'out:decoded': model.decode(fixture.tensor('in:latents')),
  };
};

const text =
  (type: typeof CLIPTextModel | typeof CLIPTextModelWithProjection): FixtureRun =>
  async (fixture, state) => {
    const model = await type.load(fixture.config, state);
    return { 'out:last': model.forward(fixture.scalars.ids as number[][]).lastHiddenState };
  };

const vision =
  (type: typeof CLIPVisionModel | typeof CLIPVisionModelWithProjection): FixtureRun =>
  async (fixture, state) => {
    const model = await type.load(fixture.config, state);
    return { 'out:last': model.forward(fixture.tensor('in:pixels')).lastHiddenState };
  };

/** By the fixture's name. */
export const FIXTURE_RUNS: Readonly<Record<string, FixtureRun>> = {
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
