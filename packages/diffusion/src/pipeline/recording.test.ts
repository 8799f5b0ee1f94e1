/**
 * The sampling loop on a device that records: the model runs once as ever, and is replayed in all further steps. Here
 * that is the CUDA device's sources on the host; results are the same to the bit.
 */
import { fixturesOf } from '@equipoise/testing';
import * as tf from '@tensorflow/tfjs-core';
import t from 'tap';
import type { SamplingInput } from './options.js';

process.env.EQUIPOISE_TEST_ENGINE = 'equipoise-simt';
const { currentDevice, useEngine } = await import('@equipoise/backend');
const { denoise, latentNoise, loadPipeline } = await import('./index.js');
await useEngine('equipoise-simt');

const fixtures = fixturesOf(import.meta.url, '../../fixtures');
const { native } = currentDevice()!;

/** Replays since it was last asked. */
const takeReplays = ((): (() => number) => {
  let count = 0;
  const { replay } = native;
  native.replay = (recording) => {
    count++;
    replay.call(native, recording);
  };
  return () => {
    const seen = count;
    count = 0;
    return seen;
  };
})();

const pipeline = await loadPipeline(fixtures.path('sd'));
t.teardown(() => pipeline.dispose());
const texts = pipeline.encodePrompts(['', 'a cat', 'a red boat']).embeds;
const empty = tf.slice(texts, [0, 0, 0], [1, -1, -1]);

/** Latents and sums of a run, with or without recordings. */
async function run(
  recorded: boolean,
  prompts: number,
  { unetBatch, seed = 0, ...options }: SamplingInput,
): Promise<{ latents: Float32Array; mi: readonly Float32Array[] }> {
  if (recorded) delete process.env.EQUIPOISE_CUDA_GRAPHS;
  else process.env.EQUIPOISE_CUDA_GRAPHS = '0';
  const sampler = pipeline.sampler(options);
  const noise = latentNoise('philox', [prompts, 8, 8, 4], seed);
  const initial = tf.tidy(() => tf.mul(noise.initial(), sampler.initNoiseSigma) as tf.Tensor4D);
  const result = await denoise(initial, {
    unet: pipeline.parts.unet,
    sampler,
    conditioning: {
      cond: tf.slice(texts, [1, 0, 0], [prompts, -1, -1]),
      uncond: tf.tile(empty, [prompts, 1, 1]),
    },
    guidance: 7.5,
    noise: (index) => noise.step(index),
    miWeight: (timestep) => timestep / 1000,
    ...(unetBatch !== undefined && { unetBatch }),
  });
  const latents = result.latents.dataSync<'float32'>().slice();
  tf.dispose([initial, result.latents]);
  return { latents, mi: result.mi };
}

const cases: Array<[number, SamplingInput]> = [
  [1, { steps: 3, sampler: 'euler', seed: 3 }],
  [2, { steps: 2, sampler: 'pndm', seed: 4, unetBatch: 1 }],
];
for (const [prompts, options] of cases) {
  t.test(`${options.sampler}: the same bits with and without recordings`, async (t) => {
    const { latents, mi } = await run(true, prompts, options);
    const calls = pipeline.sampler(options).timesteps.length;
    t.equal(takeReplays(), calls - 1, 'every call of the model but the first');
    t.equal(native.memory().held, 0, 'the recording has gone, and its memory with it');
    const plain = await run(false, prompts, options);
    t.equal(takeReplays(), 0);
    t.strictSame(mi, plain.mi);
    t.strictSame(latents, plain.latents);
    t.ok(latents.every(Number.isFinite));
  });
}
