/** Learning against PyTorch with autograd (tools/parity/make_iti_gen_fixtures.py), and the exact shortcuts. */
import { ENGINES, useEngine } from '@equipoise/backend';
import { parseJson } from '@equipoise/core';
import type { CLIPModel } from '@equipoise/models';
import { fixturesOf, requireClose } from '@equipoise/testing';
import { openSafetensors, readFloat32 } from '@equipoise/weights';
import * as tf from '@tensorflow/tfjs-core';
import t from 'tap';
import type { Attribute } from './attributes.js';
import type { AttributeFeatures } from './features.js';
import {
  type Compat,
  InclusiveTrainer,
  JOINS,
  PromptTemplate,
  type StepLog,
  type TrainOptions,
} from './index.js';
import { loadFixtureClip } from './testing/clip-fixture.js';

const fixture = await openSafetensors(fixturesOf(import.meta.url).path('updates.safetensors'));
t.teardown(() => fixture.close());
const settings = parseJson(fixture.metadata.get('settings') as string, 'settings') as Record<
  string,
  number
> & { prompt: number[]; categories: number[] };
const numbers = (name: string): Promise<Float32Array> => readFloat32(fixture.get(name));

const attributes: Attribute[] = settings.categories.map((k, a) => ({
  name: `a${a}`,
  categories: Array.from({ length: k }, (_, i) => ({ name: `c${i}`, images: [] })),
}));

async function loadFeatures(): Promise<AttributeFeatures[]> {
  return Promise.all(
    settings.categories.map(async (_, a) => {
      const [k = 0, per = 0, depth = 0] = fixture.get(`features.${a}`).shape;
      return {
        features: await numbers(`features.${a}`),
        labels: Int32Array.from({ length: k * per }, (_, i) => Math.floor(i / per)),
        depth,
      };
    }),
  );
}

function trainer(
  clip: CLIPModel,
  features: AttributeFeatures[],
  compat: Compat,
  options: Partial<TrainOptions> = {},
): InclusiveTrainer {
  const tokenizer = {
    encode: () => settings.prompt,
    bosId: settings.bos as number,
    eosId: settings.eos as number,
    padId: settings.pad as number,
    modelMaxLength: clip.config.text.max_position_embeddings,
  };
  // One update per epoch: a batch is the whole data set, so the order of images does not matter.
  return new InclusiveTrainer(attributes, features, clip, tokenizer, {
    prompt: 'fixture',
    tokenLength: settings.tokens as number,
    join: 'sum',
    consistency: settings.consistency as number,
    strength: 0,
    learningRate: settings.rate as number,
    decayAfter: settings.decay_after as number,
    decay: settings.decay as number,
    epochs: settings.updates as number,
    updatesPerEpoch: 1,
    seed: 0,
    compat,
    ...options,
  });
}

for (const engine of ENGINES.filter((name) => name === 'cpu' || name === 'equipoise-cpu')) {
  t.test(`on ${engine}`, async (t) => {
    await useEngine(engine);
    const clip = await loadFixtureClip();
    const features = await loadFeatures();

    for (const compat of ['paper', 'reference'] as const) {
      t.test(`ten updates as PyTorch makes them, ${compat}`, async (t) => {
        const learner = trainer(clip, features, compat);
        const logs: StepLog[] = [];
        let moments: Float32Array[] = learner.attributes.map(() => new Float32Array());
        while (learner.epoch < (settings.updates as number)) {
          logs.push(...(await learner.epochStep()));
          const { position, tensors } = await learner.state();
          if (position > 2) continue;
          for (const [a, { m }] of tensors.entries()) {
            // Adam's first moment tells the gradient: m = 0.9 m' + 0.1 g.
            const gradient = m.map((value, i) => (value - 0.9 * (moments[a]?.[i] ?? 0)) / 0.1);
            const expected = await numbers(`${compat}.grad.${position - 1}.${a}`);
            requireClose(`gradient ${position - 1} of ${a}`, gradient, expected, { absolute: 1e-5 });
            t.ok(
              gradient.some((value) => Math.abs(value) > 1e-4),
              'not merely small',
            );
          }
          moments = tensors.map(({ m }) => m);
        }
        const losses = Float32Array.from(
          logs.flatMap(({ direction, consistency }) => [direction, consistency]),
        );
        requireClose('losses', losses, await numbers(`${compat}.losses`), { absolute: 1e-5 });
        const { attributes: learned } = await learner.tokens('x');
        for (const [a, { values }] of learned.entries())
          requireClose(`tokens.${a}`, values, await numbers(`${compat}.tokens.${a}`), { absolute: 1e-4 });
        t.equal(logs[0]?.fallback, true, 'equal tokens have no direction');
        t.equal(logs.at(-1)?.fallback, false);
        t.equal(logs.at(-1)?.pairCosine.length, 3);
        learner.dispose();
      });
    }

    for (const join of JOINS) {
      t.test(`the prefix shortcut equals the full forward, ${join}`, async (t) => {
        const learner = trainer(clip, features, 'paper', { join });
        await learner.epochStep();
        const [short, full] = [learner.textFeatures(), learner.textFeaturesInFull()];
        requireClose(
          'text features',
          (await short.data()) as Float32Array,
          (await full.data()) as Float32Array,
          { absolute: 1e-5 },
        );
        tf.dispose([short, full]);
        learner.dispose();
        t.pass();
      });
    }

    t.test('tokens side by side are learned too', async (t) => {
      const learner = trainer(clip, features, 'paper', { join: 'concat' });
      const logs: StepLog[] = [];
      while (learner.epoch < 10) logs.push(...(await learner.epochStep()));
      // Without the first of each attribute, where the cosine loss stands in.
      for (const { name } of attributes) {
        const losses = logs.filter((log) => log.attribute === name && !log.fallback).map(({ loss }) => loss);
        t.ok((losses.at(-1) as number) < 0.8 * (losses[0] as number), `${name}: ${losses}`);
      }
      learner.dispose();
    });

    t.test('texts shift as far as is asked for', async (t) => {
      const run = async (strength: number): Promise<StepLog[]> => {
        const learner = trainer(clip, features, 'paper', { strength, decay: 1 });
        const logs: StepLog[] = [];
        while (learner.epoch < 20) logs.push(...(await learner.epochStep()));
        learner.dispose();
        return logs;
      };
      t.ok(
        (await run(0)).every(({ shortfall }) => shortfall === 0),
        'nothing is asked for',
      );
      const logs = await run(0.8);
      for (const [a, { name }] of attributes.entries()) {
        const own = logs.filter(({ attribute }) => attribute === name).map(({ shortfall }) => shortfall);
        // All texts are equal at first: every pair lacks all of it.
        requireClose(name, [own[0] as number], [(0.8 * (settings.categories[a] as number)) / 2], {
          absolute: 1e-5,
        });
        t.ok((own.at(-1) as number) < 0.1 * (own[0] as number), `${name}: ${own}`);
      }
    });

    t.test('a restored state goes on to the same bits, and nothing leaks', async (t) => {
      const before = tf.memory().numTensors;
      const whole = trainer(clip, features, 'paper', { updatesPerEpoch: 2 });
      await whole.epochStep();
      const state = await whole.state();
      await whole.epochStep();
      const resumed = trainer(clip, features, 'paper', { updatesPerEpoch: 2 });
      resumed.restore(state);
      await resumed.epochStep();
      t.same(await resumed.state(), await whole.state());
      whole.dispose();
      resumed.dispose();
      t.equal(tf.memory().numTensors, before);
    });
  });
}

t.test('what does not fit is refused by name', async (t) => {
  await useEngine('equipoise-cpu');
  const clip = await loadFixtureClip();
  const features = await loadFeatures();
  t.throws(() => trainer(clip, features, 'paper', { updatesPerEpoch: 100 }), {
    message: /attribute a0: expected at least 100 reference images/,
  });
  t.throws(() => trainer(clip, features, 'paper', { tokenLength: 1000 }), {
    message: /prompt: expected at most 0 tokens beside 1000 inclusive tokens/,
  });
  const learner = trainer(clip, features, 'paper');
  const state = await learner.state();
  t.throws(() => learner.restore({ ...state, tensors: state.tensors.slice(1) }), { code: 'conflict' });
  learner.restore({
    ...state,
    tensors: state.tensors.map((tensor) => ({ ...tensor, value: tensor.value.map(() => Number.NaN) })),
  });
  await t.rejects(learner.epochStep(), {
    code: 'numeric',
    message: /loss of attribute a0 is NaN at epoch 1, step 1/,
  });
  t.ok(PromptTemplate);
});

t.test('an epoch divides the references evenly over its updates, each image in one', async (t) => {
  await useEngine('equipoise-cpu');
  const clip = await loadFixtureClip();
  const features = await loadFeatures();
  const updatesPerEpoch = 3;
  /** Losses of the first attribute's updates, with one of its images turned into its opposite. */
  const losses = async (opposite?: number): Promise<number[]> => {
    const changed = features.map((own, a) => ({
      ...own,
      features: own.features.map((x, i) => (a === 0 && Math.floor(i / own.depth) === opposite ? -x : x)),
    }));
    // Tokens that never move: a loss depends on the images of its update alone.
    const learner = trainer(clip, changed, 'paper', { updatesPerEpoch, learningRate: 0 });
    const logs = await learner.epochStep();
    learner.dispose();
    return logs.filter(({ attribute }) => attribute === 'a0').map(({ loss }) => loss);
  };
  const plain = await losses();
  t.equal(plain.length, updatesPerEpoch);
  const images = features[0]?.labels.length as number;
  const drawn = new Array<number>(updatesPerEpoch).fill(0);
  for (let image = 0; image < images; image++) {
    const found = await losses(image);
    const steps = found.flatMap((loss, step) => (loss === plain[step] ? [] : [step]));
    t.ok(steps.length <= 1, `image ${image} is in updates ${steps}`);
    for (const step of steps) drawn[step] = (drawn[step] as number) + 1;
  }
  t.same(drawn, new Array(updatesPerEpoch).fill(Math.floor(images / updatesPerEpoch)), `of ${images} images`);
});

t.test('updates count through epochs: Adam corrects its moments by how many there were', async () => {
  await useEngine('equipoise-cpu');
  const clip = await loadFixtureClip();
  // Within a category all images are one, so that every batch with all categories asks for the same.
  const features = (await loadFeatures()).map(({ features, labels, depth }) => ({
    features: features.map((_, i) => {
      const first = labels.indexOf(labels[Math.floor(i / depth)] as number);
      return features[first * depth + (i % depth)] as number;
    }),
    labels,
    depth,
  }));
  const learn = async (updatesPerEpoch: number): Promise<Float32Array[]> => {
    const learner = trainer(clip, features, 'paper', { updatesPerEpoch, decayAfter: 100 });
    while (learner.epoch < 4 / updatesPerEpoch) await learner.epochStep();
    const { attributes } = await learner.tokens('x');
    learner.dispose();
    return attributes.map(({ values }) => values);
  };
  const [slow, fast] = [await learn(1), await learn(2)];
  for (const [a, values] of slow.entries())
    requireClose(`tokens of ${a}`, fast[a] as Float32Array, values, { absolute: 1e-5 });
});
