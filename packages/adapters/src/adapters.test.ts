import { gunzipSync } from 'node:zlib';
import { adamW, type Engine, setPrecision, useEngine } from '@equipoise/backend';
import { parseJson } from '@equipoise/core';
import { UNet2DConditionModel } from '@equipoise/models';
import { difference, fixturesOf, requireClose, requireNoLeak } from '@equipoise/testing';
import * as tf from '@tensorflow/tfjs-core';
import t from 'tap';
import {
  type AdapterConfig,
  type AdapterGroup,
  ATTENTION_TARGETS,
  attach,
  createAdapter,
  LowRankUpdate,
  planAdapter,
} from './index.js';
import { Bench, LORA_WEIGHT, openUnet, PARITY, part, reference, tensor, values } from './testing/bench.js';

const modelsFixtures = fixturesOf(import.meta.url, '../../models/fixtures');
const ENGINES: readonly Engine[] = ['cpu', 'equipoise-cpu'];
t.teardown(() => reference.close());

for (const engine of ENGINES) {
  t.test(`${engine}: LoRA and DoRA give PEFT's outputs, gradients and merged weights`, async (t) => {
    await useEngine(engine);
    const bench = await Bench.open();
    t.teardown(() => bench.dispose());
    await bench.check('plain.output');
    for (const name of ['dora', 'lora', 'pointwise'] as const) {
      const group = await bench.load(name, { weight: name === 'lora' ? LORA_WEIGHT : 1 });
      t.equal(group.spelling, 'peft');
      t.equal(group.usesDora, name !== 'lora');
      await bench.check(`${name}.output`);

      const variables = part(group).variables();
      t.same(new Set(bench.unet.trainableVariables()), new Set(variables));
      const { grads, value } = tf.variableGrads(
        () => tf.sum(tf.mul(bench.forward(), bench.weights)) as tf.Scalar,
        variables,
      );
      let compared = 0;
      for (const [path, { down, up, magnitude }] of part(group).updates) {
        for (const [key, variable] of Object.entries({ down, up, magnitude })) {
          if (variable === null) continue;
          const gradient = grads[variable.name] as tf.Tensor;
          requireClose(
            `${name}: ${path}.${key}`,
            gradient.dataSync<'float32'>(),
            await values(`${name}.gradient.${path}.${key}`),
            { absolute: 2e-4, relative: 1e-3 },
          );
          compared++;
        }
      }
      t.equal(compared, variables.length);
      t.equal(
        compared,
        [...reference.tensors.keys()].filter((key) => key.startsWith(`${name}.gradient.`)).length,
      );
      tf.dispose([value, grads]);

      const before = new Map(
        [...part(group).updates].map(([path, { layer }]) => [
          path,
          layer.weight.value.dataSync<'float32'>().slice(),
        ]),
      );
      group.merge();
      t.ok(part(group).isMerged);
      for (const [path, { layer }] of part(group).updates) {
        requireClose(
          `${name}: merged ${path}`,
          layer.weight.value.dataSync<'float32'>(),
          await values(`${name}.merged.${path}`),
          { absolute: 1e-6, relative: 1e-5 },
        );
      }
      await bench.check(`${name}.merged.output`);
      group.unmerge();
      for (const [path, { layer }] of part(group).updates)
        t.same(layer.weight.value.dataSync<'float32'>(), before.get(path), `${path} is restored to the bit`);
      await bench.check(`${name}.output`);
      group.remove();
      await bench.check('plain.output');
      t.same(bench.unet.trainableVariables(), []);
    }
  });

  t.test(`${engine}: several adapters with weights combine as in PEFT, in their order`, async (t) => {
    await useEngine(engine);
    const bench = await Bench.open();
    t.teardown(() => bench.dispose());
    const weights = { dora: 0.7, lora: -0.1, pointwise: 0.25 };
    for (const order of [
      ['dora', 'lora', 'pointwise'],
      ['lora', 'dora', 'pointwise'],
    ] as const) {
      const groups: AdapterGroup[] = [];
      for (const name of order) groups.push(await bench.load(name, { weight: weights[name] }));
      await bench.check(`${order.join('-')}.output`);
      if (order[0] === 'dora') {
        const plain = await bench.output();
        for (const group of groups) group.merge();
        const [first, , last] = groups as [AdapterGroup, AdapterGroup, AdapterGroup];
        for (const name of [...reference.tensors.keys()].filter((key) =>
          key.startsWith('dora-lora-pointwise.merged.'),
        )) {
          const path = name.slice('dora-lora-pointwise.merged.'.length);
          if (path === 'output') continue;
          const layer = groups
            .map((group) => part(group).updates.get(path)?.layer)
            .find((found) => found !== undefined);
          requireClose(name, layer?.weight.value.dataSync<'float32'>() ?? [], await values(name), {
            absolute: 1e-6,
            relative: 1e-5,
          });
        }
        await bench.check('dora-lora-pointwise.merged.output');
        t.throws(() => first.unmerge(), {
          code: 'conflict',
          message: /expected the adapter merged last, got one merged before (lora|pointwise)/,
        });
        t.throws(() => last.merge(), { code: 'conflict', message: /merged already/ });
        t.throws(() => last.setWeight(2), { code: 'conflict', message: /expected it unmerged/ });
        for (const group of groups.toReversed()) group.unmerge();
        t.throws(() => last.unmerge(), { code: 'conflict', message: /is not merged/ });
        t.same(await bench.output(), plain, 'everything is restored to the bit');
      }
      for (const group of groups) group.remove();
    }
    // At weight 0 PEFT's DoRA still sets the rows' lengths; a LoRA is off.
    const dora = await bench.load('dora', { weight: 0 });
    await bench.check('dora-zero.output');
    dora.remove();
    const lora = await bench.load('lora', { weight: 0 });
    t.same(part(lora).variables().length > 0 && bench.unet.trainableVariables(), []);
    await bench.check('plain.output');
  });
}

t.test('merging some of several adapters changes no output, in any order', async (t) => {
  await useEngine('equipoise-cpu');
  const bench = await Bench.open();
  t.teardown(() => bench.dispose());
  const lora = await bench.load('lora', { weight: LORA_WEIGHT });
  const dora = await bench.load('dora');
  const expected = await bench.output();
  lora.merge();
  requireClose('LoRA merged', await bench.output(), expected, PARITY);
  part(dora).changed();
  requireClose('norms computed after the merge', await bench.output(), expected, PARITY);
  dora.merge();
  requireClose('both merged', await bench.output(), expected, PARITY);
  lora.remove();
  requireClose('the first one taken off its layers', await bench.output(), expected, PARITY);
  dora.unmerge();
  // The LoRA is now part of the model for good, and DoRA's norms are those of the model.
  const folded = await bench.output();
  part(dora).changed();
  t.same(await bench.output(), folded);
});

t.test('bf16: outputs near those of f32, merged or not, and an exact way back', async (t) => {
  await useEngine('equipoise-cpu');
  setPrecision('bf16');
  t.teardown(() => setPrecision('f32'));
  const bench = await Bench.open('bf16');
  t.teardown(() => bench.dispose());
  // What bf16 costs the model without an adapter.
  const cost = difference(await bench.output(), await values('plain.output')).relativeNorm;
  for (const name of ['dora', 'lora', 'pointwise'] as const) {
    const group = await bench.load(name, { weight: name === 'lora' ? LORA_WEIGHT : 1 });
    const before = await bench.output();
    requireClose(name, before, await values(`${name}.output`), { relativeNorm: 4 * cost });
    for (const storage of ['bf16', 'f32'] as const) {
      group.merge(storage);
      requireClose(`${name} merged in ${storage}`, await bench.output(), await values(`${name}.output`), {
        relativeNorm: 4 * cost,
      });
      group.unmerge();
      t.same(await bench.output(), before);
    }
    group.remove();
  }
});

const MI_TUNE: AdapterConfig = {
  kind: 'dora',
  rank: 32,
  alpha: 32,
  init: 'gaussian',
  targets: ATTENTION_TARGETS,
};

t.test('a new adapter has the published size and changes nothing', async (t) => {
  await useEngine('equipoise-cpu');
  type Keys = Record<string, { config: unknown }>;
  const configs = parseJson(
    gunzipSync(modelsFixtures.bytes('keys.json.gz')).toString(),
    'keys.json.gz',
  ) as unknown as Keys;
  const plan = (name: string, config: AdapterConfig) =>
    planAdapter(new UNet2DConditionModel(configs[name]?.config), config);
  const sizes = (name: string, kind: 'lora' | 'dora'): number[] => {
    const { layers, tensors, parameters } = plan(name, { ...MI_TUNE, kind });
    return [layers.size, tensors, parameters];
  };
  t.same(sizes('unet-sd21', 'dora'), [128, 384, 6_739_456]);
  t.same(sizes('unet-sd21', 'lora'), [128, 256, 6_639_616]);
  t.same(sizes('unet-sdxl', 'dora'), [560, 1680, 47_114_240]);

  const bench = await Bench.open();
  t.teardown(() => bench.dispose());
  for (const kind of ['dora', 'lora'] as const) {
    const config = { ...MI_TUNE, kind, rank: 4 };
    const adapter = createAdapter(bench.unet, 'new', config, 3);
    const { tensors, parameters } = planAdapter(bench.unet, config);
    t.same([adapter.variables().length, adapter.parameterCount], [tensors, parameters]);
    await bench.check('plain.output');
    const first = adapter.variables()[0]?.dataSync<'float32'>() as Float32Array;
    const std = Math.hypot(...first) / Math.sqrt(first.length);
    t.ok(std > 0.1 && std < 0.5, `std ${std} near 1/r`);
    adapter.remove();
  }
  for (const [change, message] of [
    [{ rank: 0 }, /rank: expected a positive integer, got 0/],
    [{ alpha: Number.NaN }, /alpha: expected a positive number, got NaN/],
    [{ targets: [] }, /targets: expected at least one layer name/],
    [{ targets: ['to_k', 'to_qq'] }, /did you mean to_q\?\), got "to_qq", which matches none/],
    [{ targets: ['to_out.1'] }, /did you mean to_out\.0\?/],
    [{ kind: 'loha' as 'lora' }, /kind: expected lora or dora, got "loha"/],
  ] as const) {
    t.throws(() => createAdapter(bench.unet, 'bad', { ...MI_TUNE, ...change }, 0), { message });
  }
});

t.test('training moves an adapter, and nothing leaks', async (t) => {
  await useEngine('equipoise-cpu');
  const bench = await Bench.open();
  t.teardown(() => bench.dispose());
  await requireNoLeak('load, merge, unmerge, remove', async () => {
    const group = await bench.load('dora');
    await bench.output();
    group.merge();
    group.unmerge();
    group.remove();
  });
  const adapter = createAdapter(bench.unet, 'trained', { ...MI_TUNE, rank: 2, alpha: 2 }, 5);
  const variables = adapter.variables();
  const goal = await tensor<tf.Tensor4D>('dora.output');
  const moments = variables.map(({ shape }) => ({
    m: tf.tidy(() => tf.variable(tf.zeros(shape))),
    v: tf.tidy(() => tf.variable(tf.zeros(shape))),
  }));
  const losses: number[] = [];
  for (let step = 1; step <= 12; step++) {
    const { value, grads } = tf.variableGrads(
      () => tf.mean(tf.squaredDifference(bench.forward(), goal)) as tf.Scalar,
      variables,
    );
    const parameters = variables.map((parameter, i) => ({
      parameter,
      gradient: grads[parameter.name] as tf.Tensor,
      ...(moments[i] as { m: tf.Variable; v: tf.Variable }),
    }));
    adamW(parameters, { step, learningRate: 2e-2, weightDecay: 0, maxNorm: 1 }).dispose();
    adapter.changed();
    losses.push((await value.data())[0] as number);
    tf.dispose([value, grads]);
  }
  t.ok((losses.at(-1) as number) < 0.7 * (losses[0] as number), `loss ${losses[0]} to ${losses.at(-1)}`);
  adapter.merge();
  const merged = await bench.output();
  adapter.remove();
  t.same(await bench.output(), merged, 'a merged adapter that is removed stays folded in');
});

t.test('updates of wrong shapes are refused by name', async (t) => {
  await useEngine('equipoise-cpu');
  const unet = await openUnet();
  t.teardown(() => unet.dispose());
  const [, layer] = [...unet.namedLinears()].find(([path]) => path.endsWith('attn2.to_k')) as [string, never];
  const update = (down: [number, number], up: [number, number], magnitude: number | null): void =>
    tf.tidy(() => {
      new LowRankUpdate(
        layer,
        {
          down: tf.ones<tf.Rank.R2>(down),
          up: tf.ones<tf.Rank.R2>(up),
          magnitude: magnitude === null ? null : tf.ones<tf.Rank.R1>([magnitude]),
        },
        1,
      );
    });
  t.throws(() => update([2, 9], [4, 2], null), { message: /lora_A: expected \[2, 8\], got \[2, 9\]/ });
  t.throws(() => update([2, 8], [5, 2], null), { message: /lora_B: expected \[4, 2\], got \[5, 2\]/ });
  t.throws(() => update([2, 8], [4, 2], 5), { message: /lora_magnitude_vector: expected \[4\], got \[5\]/ });
  t.same(attach(unet, 'empty', new Map()).variables(), []);
});
