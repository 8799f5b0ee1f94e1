import { useEngine } from '@equipoise/backend';
import { EquipoiseError } from '@equipoise/core';
import * as tf from '@tensorflow/tfjs-core';
import t from 'tap';
import type { Tally } from '../judges/scene-judge.js';
import { JUDGE_TASKS } from '../judges/tasks.js';
import { drawSamples } from '../world/sample.js';
import { BatchOrder } from './batches.js';
import { type LoopResult, type TrainingStage, trainStage } from './loop.js';
import { rateAt } from './schedule.js';
import { TrainedWeights } from './trained-weights.js';

t.before(() => useEngine('cpu'));

t.test('every epoch sees every sample once, in an order of its own', (t) => {
  const order = new BatchOrder(1, 'test', 20, 5);
  const epoch = (first: number): number[] => [0, 1, 2, 3].flatMap((step) => order.at(first + step));
  const [one, two] = [epoch(1), epoch(5)];
  t.same(
    [...one].sort((a, b) => a - b),
    Array.from({ length: 20 }, (_, index) => index),
  );
  t.notSame(one, two);
  t.same(new BatchOrder(1, 'test', 20, 5).at(7), two.slice(10, 15), 'a function of the step alone');
  t.notSame(new BatchOrder(1, 'other', 20, 5).at(1), one.slice(0, 5));
  t.throws(() => new BatchOrder(1, 'test', 4, 5), EquipoiseError);
  t.end();
});

t.test('learning rate: up, then down a cosine', (t) => {
  const schedule = { peak: 1, warmup: 10, floor: 0.1 };
  t.equal(rateAt(5, 110, schedule), 0.5);
  t.equal(rateAt(10, 110, schedule), 1);
  t.ok(Math.abs(rateAt(60, 110, schedule) - 0.55) < 1e-12);
  t.ok(Math.abs(rateAt(110, 110, schedule) - 0.1) < 1e-12);
  t.throws(() => rateAt(111, 110, schedule), EquipoiseError);
  t.end();
});

t.test('what a perfect judge would say reads as what is there', (t) => {
  for (const task of JUDGE_TASKS) {
    const tally: Tally = new Map();
    for (const { labels } of drawSamples(2, 'test', 60, 0, { kind: task.name })) {
      const targets = task.targets([labels]);
      const values = Float32Array.from((targets.values ?? targets.classes)!.dataSync<'float32'>());
      // Sure of its classes; the last two numbers of a cell are an offset, not a class.
      const perfect = values.map((value, index) =>
        task.extent === 'cell' && index % task.outputs >= task.outputs - 2 ? value : value * 20,
      );
      task.tally(tally, perfect, labels);
      tf.dispose(targets);
    }
    t.ok(tally.size >= 6);
    for (const [question, { right, asked }] of tally) t.equal(right, asked, `${task.name}: ${question}`);
  }
  t.end();
});

t.test('a judge that knows nothing pays the entropy of its questions', (t) => {
  const expected = {
    scene: Math.log(8) + Math.log(5),
    headshot: Math.log(6) + Math.log(5) + Math.log(3) + 6 * Math.log(2),
  };
  for (const task of JUDGE_TASKS) {
    const labels = drawSamples(2, 'test', 3, 0, { kind: task.name }).map((sample) => sample.labels);
    const targets = task.targets(labels);
    const shape = task.extent === 'cell' ? [3, 64, task.outputs] : [3, task.outputs];
    let loss = task.loss(tf.zeros(shape), targets).dataSync<'float32'>()[0]!;
    if (targets.inside && targets.values) {
      // Shapes are asked on all cells, offsets cost their own square.
      const inside = tf.sum(targets.inside).dataSync<'float32'>()[0]!;
      const offsets = tf
        .sum(tf.square(tf.slice(targets.values, [0, 0, task.outputs - 2])))
        .dataSync<'float32'>()[0]!;
      loss -= (3 * 64 * Math.log(9) + offsets) / inside;
    }
    t.ok(Math.abs(loss - expected[task.name]) < 1e-4, `${task.name}: ${loss} for ${expected[task.name]}`);
  }
  t.end();
});

/** A linear regression that draws its batches by step, as the real stages do. */
function regression(
  steps: number,
  poison?: number,
): TrainingStage<{ x: tf.Tensor2D }> & { variable: tf.Variable } {
  const variable = tf.variable(tf.tensor2d([[0.5], [-0.25], [2]]));
  return {
    name: 'regression',
    steps,
    identity: 'regression of the tests',
    variable,
    optimizer: {
      rate: { peak: 0.05, warmup: 5, floor: 0.1 },
      beta1: 0.9,
      beta2: 0.99,
      weightDecay: 0.01,
      maxNorm: 1,
    },
    weights: new TrainedWeights(new Map([['w', variable]]), { decay: 0.9, every: 2 }),
    inputs: (step) => ({ x: tf.tensor2d([step % 3, step % 5, step === poison ? Number.NaN : 1], [1, 3]) }),
    loss: ({ x }) => tf.mean(tf.square(tf.sub(tf.matMul(x, variable as tf.Tensor2D), 3))) as tf.Scalar,
  };
}

t.test('an interrupted and resumed run equals an uninterrupted one', async (t) => {
  const run = async (
    folder: string,
    signal?: AbortSignal,
  ): Promise<{ result: LoopResult; weights: Float32Array }> => {
    const stage = regression(40);
    const result = await trainStage(stage, { folder, checkpointEvery: 7, signal });
    return { result, weights: await stage.variable.data<'float32'>() };
  };
  const root = t.testdir({ straight: {}, twin: {}, broken: {}, late: {} });
  const whole = await run(`${root}/straight`);
  t.equal(whole.result.finished, true);
  t.same((await run(`${root}/twin`)).result.losses, whole.result.losses, 'the same curve twice');
  const stop = new AbortController();
  const interrupted = regression(40);
  const inputs = interrupted.inputs;
  interrupted.inputs = (step) => {
    if (step === 17) stop.abort();
    return inputs(step);
  };
  await t.rejects(
    trainStage(interrupted, { folder: `${root}/broken`, checkpointEvery: 7, signal: stop.signal }),
    {
      code: 'cancelled',
    },
  );
  const resumed = await run(`${root}/broken`);
  t.same(resumed.result.losses, whole.result.losses);
  t.same(resumed.weights, whole.weights);
  const early = await trainStage(regression(40), {
    folder: `${root}/late`,
    checkpointEvery: 7,
    deadline: Date.now() - 1,
  });
  t.match(early, { step: 0, finished: false });
});

t.test('a loss that is not finite stops the run and leaves the checkpoint', async (t) => {
  const folder = t.testdir({});
  await t.rejects(trainStage(regression(40, 23), { folder, checkpointEvery: 7 }), {
    code: 'numeric',
    message: /step 23/,
  });
  const fixed = await trainStage(regression(40), { folder, checkpointEvery: 7 });
  t.equal(fixed.step, 40);
  const other = { ...regression(40), identity: 'another recipe' };
  await t.rejects(trainStage(other, { folder, checkpointEvery: 7 }), { code: 'conflict' });
});

t.test('averaged weights are put in place and taken out again', async (t) => {
  const stage = regression(10);
  await trainStage(stage, { folder: t.testdir({}), checkpointEvery: 100 });
  const tensors = tf.memory().numTensors;
  const trained = (await stage.variable.data()).slice();
  const averaged = await stage.weights.withAverage(async () => (await stage.variable.data()).slice());
  t.notSame(averaged, trained);
  t.same(await stage.variable.data(), trained);
  t.equal(tf.memory().numTensors, tensors, 'nothing is left behind');
});
