/** Training on the native engine: repeatable to the bit, interrupted or not, and in step with the portable engine. */
import { useEngine } from '@equipoise/backend';
import { UNet2DConditionModel } from '@equipoise/models';
import * as tf from '@tensorflow/tfjs-core';
import t from 'tap';
import { pictureTensor } from '../data/pictures.js';
import { JudgeNetwork } from '../judges/network.js';
import { SCENE_OUTPUTS, type SceneTargets, sceneLoss, sceneTargets } from '../judges/scene-judge.js';
import { TEXT_WIDTH, unetConfig } from '../model/architecture.js';
import type { SceneLabels } from '../world/attributes.js';
import { renderImages } from '../world/render.js';
import { drawSamples } from '../world/sample.js';
import { BatchOrder } from './batches.js';
import { type TrainingStage, trainStage } from './loop.js';
import { TrainedWeights } from './trained-weights.js';

const OPTIMIZER = {
  rate: { peak: 2e-3, warmup: 3, floor: 0.1 },
  beta1: 0.9,
  beta2: 0.99,
  weightDecay: 0.01,
  maxNorm: 1,
};

const samples = drawSamples(4, 'judge', 32, 0, { kind: 'scene' });
const images = await renderImages(samples);

type Inputs = { pictures: tf.Tensor4D; targets: SceneTargets };

function judgeStage(steps: number): TrainingStage<Inputs> {
  const network = JudgeNetwork.random(SCENE_OUTPUTS, 'cell', 1);
  const order = new BatchOrder(1, 'test', samples.length, 8);
  return {
    name: 'judge',
    steps,
    identity: 'test',
    optimizer: OPTIMIZER,
    weights: new TrainedWeights(
      network.setTrainable(() => true),
      { decay: 0.9, every: 2 },
    ),
    inputs: (step) => {
      const indices = order.at(step);
      return {
        pictures: pictureTensor(images, indices),
        targets: sceneTargets(indices.map((index) => samples[index]!.labels as SceneLabels)),
      };
    },
    loss: ({ pictures, targets }) => sceneLoss(network.forward(pictures), targets),
  };
}

t.test('the same curve twice, and after an interruption', async (t) => {
  await useEngine('equipoise-cpu');
  const root = t.testdir({ first: {}, second: {}, broken: {} });
  const first = await trainStage(judgeStage(12), { folder: `${root}/first`, checkpointEvery: 5 });
  const second = await trainStage(judgeStage(12), { folder: `${root}/second`, checkpointEvery: 5 });
  t.same(second.losses, first.losses);
  t.ok(first.losses[11]! < first.losses[0]!, 'it learns');
  const stop = new AbortController();
  const broken = judgeStage(12);
  const { inputs } = broken;
  const interrupted: typeof broken = {
    ...broken,
    inputs: (step) => {
      if (step === 8) stop.abort();
      return inputs(step);
    },
  };
  const options = { folder: `${root}/broken`, checkpointEvery: 5 };
  await t.rejects(trainStage(interrupted, { ...options, signal: stop.signal }), { code: 'cancelled' });
  t.same((await trainStage(judgeStage(12), options)).losses, first.losses);
});

t.test("a step of the denoiser equals the portable engine's", async (t) => {
  const step = async (engine: 'cpu' | 'equipoise-cpu'): Promise<{ loss: number; norm: number }> => {
    await useEngine(engine);
    const unet = UNet2DConditionModel.random({ ...unetConfig(), block_out_channels: [16, 32] }, 3, {
      storage: 'f32',
    });
    const weights = new TrainedWeights(
      unet.setTrainable(() => true),
      { decay: 0.9, every: 1 },
    );
    const wave = (shape: number[], phase: number): tf.Tensor =>
      tf.tidy(() =>
        tf.reshape(tf.sin(tf.add(tf.mul(tf.range(0, tf.util.sizeFromShape(shape)), 0.37), phase)), shape),
      );
    const [noisy, noise] = [wave([2, 4, 4, 4], 0) as tf.Tensor4D, wave([2, 4, 4, 4], 1)];
    const context = wave([2, 6, TEXT_WIDTH], 2) as tf.Tensor3D;
    const loss = (): tf.Scalar => tf.mean(tf.square(tf.sub(unet.forward(noisy, [10, 700], context), noise)));
    const { rate: _, ...rest } = OPTIMIZER;
    const result = weights.step(loss, { step: 1, learningRate: 1e-3, ...rest });
    const [value, norm] = [(await result.loss.data())[0]!, (await result.norm.data())[0]!];
    unet.dispose();
    weights.dispose();
    return { loss: value, norm };
  };
  const [native, portable] = [await step('equipoise-cpu'), await step('cpu')];
  t.ok(
    Math.abs(native.loss - portable.loss) < 1e-5 * portable.loss,
    `loss ${native.loss} for ${portable.loss}`,
  );
  t.ok(
    Math.abs(native.norm - portable.norm) < 1e-4 * portable.norm,
    `gradient ${native.norm} for ${portable.norm}`,
  );
});
