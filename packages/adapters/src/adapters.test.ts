import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { adamW, type Engine, setPrecision, useEngine } from '@equipoise/backend';
import { parseJson } from '@equipoise/core';
import { CLIPTextModel, UNet2DConditionModel } from '@equipoise/models';
import { difference, fixturesOf, requireClose, requireNoLeak } from '@equipoise/testing';
import { float32Source, openAdapter, openFolder, openSafetensors, readFloat32, writeSafetensors } from '@equipoise/weights';
import * as tf from '@tensorflow/tfjs-core';
import t from 'tap';
import { ATTENTION_TARGETS, type Adapter, type AdapterConfig, type AdapterGroup, attach, createAdapter, loadAdapter, LowRankUpdate, planAdapter, saveAdapter } from './index.js';

const fixtures = fixturesOf(import.meta.url);
const weightsFixtures = fixturesOf(import.meta.url, '../../weights/fixtures');
const modelsFixtures = fixturesOf(import.meta.url, '../../models/fixtures');
const PATHS = {
  dora: weightsFixtures.path('adapters/dora-peft'),
  lora: weightsFixtures.path('adapters/lora-peft-patterns'),
  pointwise: fixtures.path('dora-pointwise'),
} as const;
type Name = keyof typeof PATHS;
const ENGINES: readonly Engine[] = ['cpu', 'equipoise-cpu'];
const PARITY = { absolute: 1e-4 };

const reference = await openSafetensors(fixtures.path('expected.safetensors'));
t.teardown(() => reference.close());
const values = (name: string): Promise<Float32Array> => readFloat32(reference.get(name));
async function tensor<T extends tf.Tensor>(name: string): Promise<T> {
  return tf.tensor(await values(name), [...reference.get(name).shape]) as T;
}

async function openUnet(storage: 'f32' | 'bf16' = 'f32'): Promise<UNet2DConditionModel> {
  const folder = await openFolder(weightsFixtures.path('pipeline'), { variant: 'fp16' });
  const component = await folder.component('unet');
  await using state = await component.openWeights();
  return await UNet2DConditionModel.load(component.config, state, { storage });
}

/** At its full weight the LoRA fixture makes the little model chaotic: rounding then shows in the third digit. */
const LORA_WEIGHT = 0.05;

/** A model with the reference's inputs. */
class Bench {
  private constructor(
    readonly unet: UNet2DConditionModel,
    readonly sample: tf.Tensor4D,
    readonly context: tf.Tensor3D,
    readonly weights: tf.Tensor4D,
  ) {}

  static async open(storage: 'f32' | 'bf16' = 'f32'): Promise<Bench> {
    return new Bench(await openUnet(storage), await tensor('sample'), await tensor('context'), await tensor('weights'));
  }

  forward(): tf.Tensor4D {
    return this.unet.forward(this.sample, 501, this.context);
  }

  async output(): Promise<Float32Array> {
    const output = this.forward();
    const numbers = (await output.data()) as Float32Array;
    output.dispose();
    return numbers;
  }

  async check(name: string): Promise<void> {
    requireClose(name, await this.output(), await values(name), PARITY);
  }

  async load(name: Name, options: Parameters<typeof loadAdapter>[2] = {}): Promise<AdapterGroup> {
    return loadAdapter(PATHS[name], { unet: this.unet }, { name, ...options });
  }

  dispose(): void {
    tf.dispose([this.sample, this.context, this.weights]);
    this.unet.dispose();
  }
}

const part = (group: AdapterGroup): Adapter => group.parts.get('unet') as Adapter;

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
      const { grads, value } = tf.variableGrads(() => tf.sum(tf.mul(bench.forward(), bench.weights)) as tf.Scalar, variables);
      let compared = 0;
      for (const [path, { down, up, magnitude }] of part(group).updates) {
        for (const [key, variable] of Object.entries({ down, up, magnitude })) {
          if (variable === null) continue;
          const gradient = grads[variable.name] as tf.Tensor;
          requireClose(`${name}: ${path}.${key}`, gradient.dataSync<'float32'>(), await values(`${name}.gradient.${path}.${key}`), { absolute: 2e-4, relative: 1e-3 });
          compared++;
        }
      }
      t.equal(compared, variables.length);
      t.equal(compared, [...reference.tensors.keys()].filter((key) => key.startsWith(`${name}.gradient.`)).length);
      tf.dispose([value, grads]);

      const before = new Map([...part(group).updates].map(([path, { layer }]) => [path, layer.weight.value.dataSync<'float32'>().slice()]));
      group.merge();
      t.ok(part(group).isMerged);
      for (const [path, { layer }] of part(group).updates) {
        requireClose(`${name}: merged ${path}`, layer.weight.value.dataSync<'float32'>(), await values(`${name}.merged.${path}`), { absolute: 1e-6, relative: 1e-5 });
      }
      await bench.check(`${name}.merged.output`);
      group.unmerge();
      for (const [path, { layer }] of part(group).updates) t.same(layer.weight.value.dataSync<'float32'>(), before.get(path), `${path} is restored to the bit`);
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
    for (const order of [['dora', 'lora', 'pointwise'], ['lora', 'dora', 'pointwise']] as const) {
      const groups: AdapterGroup[] = [];
      for (const name of order) groups.push(await bench.load(name, { weight: weights[name] }));
      await bench.check(`${order.join('-')}.output`);
      if (order[0] === 'dora') {
        const plain = await bench.output();
        for (const group of groups) group.merge();
        const [first, , last] = groups as [AdapterGroup, AdapterGroup, AdapterGroup];
        for (const name of [...reference.tensors.keys()].filter((key) => key.startsWith('dora-lora-pointwise.merged.'))) {
          const path = name.slice('dora-lora-pointwise.merged.'.length);
          if (path === 'output') continue;
          const layer = groups.map((group) => part(group).updates.get(path)?.layer).find((found) => found !== undefined);
          requireClose(name, layer?.weight.value.dataSync<'float32'>() ?? [], await values(name), { absolute: 1e-6, relative: 1e-5 });
        }
        await bench.check('dora-lora-pointwise.merged.output');
        t.throws(() => first.unmerge(), { code: 'conflict', message: /expected the adapter merged last, got one merged before (lora|pointwise)/ });
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
      requireClose(`${name} merged in ${storage}`, await bench.output(), await values(`${name}.output`), { relativeNorm: 4 * cost });
      group.unmerge();
      t.same(await bench.output(), before);
    }
    group.remove();
  }
});

t.test("the text encoder's part of an adapter", async (t) => {
  await useEngine('equipoise-cpu');
  const folder = await openFolder(weightsFixtures.path('pipeline'));
  const component = await folder.component('text_encoder');
  await using state = await component.openWeights();
  const text = await CLIPTextModel.load(component.config, state, { storage: 'f32' });
  const unet = await openUnet();
  t.teardown(() => [text, unet].forEach((model) => void model.dispose()));
  const source = reference.get('text.ids');
  const flat = new Int32Array((await source.read()).buffer);
  const ids = [flat.subarray(0, 8), flat.subarray(8)];
  const check = async (name: string): Promise<void> => {
    const hidden = tf.tidy(() => text.forward(ids).lastHiddenState);
    requireClose(name, await hidden.data(), await values(name), PARITY);
    hidden.dispose();
  };
  await check('text.plain');
  const path = weightsFixtures.path('adapters/lora-unet-text');
  const group = await loadAdapter(path, { unet, text_encoder: text });
  t.same([...group.parts.keys()].sort(), ['text_encoder', 'unet']);
  t.equal(group.name, 'lora-unet-text');
  await check('text.output');
  const out = t.testdir();
  await saveAdapter(out, group.parts);
  const [ours, theirs] = await Promise.all([join(out, 'pytorch_lora_weights.safetensors'), join(path, 'pytorch_lora_weights.safetensors')].map((file) => readFile(file)));
  t.ok(ours?.equals(theirs as Buffer), 'saved again it is the same file');
  await saveAdapter(join(out, 'peft'), group.parts, { spelling: 'peft' });
  for (const name of ['unet', 'text_encoder']) {
    await using saved = await openAdapter(join(out, 'peft', name), { component: name });
    t.same([...saved.components.keys()], [name]);
  }
  await t.rejects(loadAdapter(path, { unet }, { name: 'other' }), { code: 'conflict', message: /expected an adapter for unet, got one for text_encoder too/ });
  await t.rejects(loadAdapter(path, { unet, text_encoder: text }), { code: 'conflict', message: /has an adapter called lora-unet-text already/ });
  group.remove();
  await check('text.plain');
});

t.test('every spelling saved and loaded gives the same output', async (t) => {
  await useEngine('equipoise-cpu');
  const bench = await Bench.open();
  t.teardown(() => bench.dispose());
  const out = t.testdir();
  for (const name of ['dora', 'lora', 'pointwise'] as const) {
    const weight = name === 'lora' ? LORA_WEIGHT : 1;
    const group = await bench.load(name, { weight });
    for (const spelling of ['diffusers', 'peft'] as const) {
      const folder = await saveAdapter(join(out, name, spelling), group.parts, { spelling, baseModel: 'owner/model' });
      if (spelling === 'diffusers') {
        // diffusers takes all keys for what the first one is: a file may not mix its own endings with PEFT's.
        await using written = await openSafetensors(join(folder, 'pytorch_lora_weights.safetensors'));
        const endings = new Set([...written.tensors.keys()].map((key) => /\.lora[._].*$/.exec(key)?.[0]));
        const own = name === 'pointwise' ? ['.lora_A.weight', '.lora_B.weight'] : ['.lora.down.weight', '.lora.up.weight'];
        t.same(endings, new Set([...own, ...(name === 'lora' ? [] : ['.lora_magnitude_vector'])]), name);
      }
      const [before, expected] = [await bench.output(), await values(`${name}.output`)];
      requireClose(name, before, expected, PARITY);
      const fresh = await openUnet();
      const loaded = await loadAdapter(folder, { unet: fresh }, { weight });
      t.equal(loaded.spelling, spelling);
      const output = fresh.forward(bench.sample, 501, bench.context);
      t.same(await output.data(), before, `${name} as ${spelling}`);
      output.dispose();
      loaded.remove();
      fresh.dispose();
    }
    group.remove();
  }
  const half = await bench.load('dora');
  await saveAdapter(join(out, 'half'), half.parts, { dtype: 'F16' });
  await using saved = await openSafetensors(join(out, 'half', 'pytorch_lora_weights.safetensors'));
  t.same(new Set([...saved.tensors.values()].map(({ dtype }) => dtype)), new Set(['F16']));
  tf.tidy(() => part(half).variables()[0]?.assign(tf.fill(part(half).variables()[0]?.shape as number[], Number.NaN)));
  await t.rejects(saveAdapter(join(out, 'nan'), half.parts), { code: 'numeric', message: /down\[0\]: expected a finite number, got NaN/ });
});

const MI_TUNE: AdapterConfig = { kind: 'dora', rank: 32, alpha: 32, init: 'gaussian', targets: ATTENTION_TARGETS };

t.test('a new adapter has the published size and changes nothing', async (t) => {
  await useEngine('equipoise-cpu');
  type Keys = Record<string, { config: unknown }>;
  const configs = parseJson(gunzipSync(modelsFixtures.bytes('keys.json.gz')).toString(), 'keys.json.gz') as unknown as Keys;
  const plan = (name: string, config: AdapterConfig) => planAdapter(new UNet2DConditionModel(configs[name]?.config), config);
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

t.test('an adapter for another architecture is refused layer by layer, and nothing is attached', async (t) => {
  await useEngine('equipoise-cpu');
  const unet = await openUnet();
  t.teardown(() => unet.dispose());
  const base = 'unet.down_blocks.0.attentions.0.transformer_blocks.0';
  const ones = (name: string, shape: number[]) => float32Source(`${base}.${name}`, shape, new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(1));
  const folder = t.testdir();
  const file = join(folder, 'foreign.safetensors');
  await writeSafetensors(file, [
    ones('attn1.to_q.lora.down.weight', [2, 4]),
    ones('attn1.to_q.lora.up.weight', [4, 2]),
    ones('attn2.to_k.lora.down.weight', [2, 768]),
    ones('attn2.to_k.lora.up.weight', [4, 2]),
    ones('attn2.to_out.0.lora.down.weight', [2, 4]),
    ones('attn2.to_out.0.lora.up.weight', [320, 2]),
    ones('attn3.to_k.lora.down.weight', [2, 768]),
    ones('attn3.to_k.lora.up.weight', [4, 2]),
    ones('ff.net.0.proj.lora_A.weight', [2, 4, 3, 3]),
    ones('ff.net.0.proj.lora_B.weight', [32, 2, 1, 1]),
    ones('norm1.lora_A.weight', [2, 4]),
    ones('norm1.lora_B.weight', [4, 2]),
  ]);
  const path = base.slice('unet.'.length).replaceAll('.', '\\.');
  const tensors = tf.memory().numTensors;
  await t.rejects(loadAdapter(file, { unet }), {
    code: 'conflict',
    message: new RegExp(
      [
        'foreign\\.safetensors: expected an adapter for this UNet2DConditionModel, got one for another: of 6 layers 2 are not in it and 3 have other shapes',
        `"${path}\\.attn3\\.to_k": no such layer; nearest: "${path}\\.attn[12]\\.to_k"`,
        `"${path}\\.norm1": not a linear layer[^\\n]*`,
        `"${path}\\.attn2\\.to_k": expected lora_A \\[2, 8\\], got \\[2, 768\\]`,
        `"${path}\\.attn2\\.to_out\\.0": expected lora_B \\[4, 2\\], got \\[320, 2\\]`,
        `"${path}\\.ff\\.net\\.0\\.proj": expected matrices, got a convolution of size 3 x 3`,
      ].join('\\n  '),
    ),
    hints: ["The adapter was made for text of width 768 (Stable Diffusion 1); this model's has 8."],
  });
  t.equal(tf.memory().numTensors, tensors);
  t.ok([...unet.namedLinears()].every(([, layer]) => layer.adapter === null));
  const controller = new AbortController();
  controller.abort();
  await t.rejects(loadAdapter(PATHS.dora, { unet }, { signal: controller.signal }), { code: 'cancelled' });
  t.equal(tf.memory().numTensors, tensors);
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
  const moments = variables.map(({ shape }) => ({ m: tf.tidy(() => tf.variable(tf.zeros(shape))), v: tf.tidy(() => tf.variable(tf.zeros(shape))) }));
  const losses: number[] = [];
  for (let step = 1; step <= 12; step++) {
    const { value, grads } = tf.variableGrads(() => tf.mean(tf.squaredDifference(bench.forward(), goal)) as tf.Scalar, variables);
    const parameters = variables.map((parameter, i) => ({ parameter, gradient: grads[parameter.name] as tf.Tensor, ...(moments[i] as { m: tf.Variable; v: tf.Variable }) }));
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
      new LowRankUpdate(layer, { down: tf.ones<tf.Rank.R2>(down), up: tf.ones<tf.Rank.R2>(up), magnitude: magnitude === null ? null : tf.ones<tf.Rank.R1>([magnitude]) }, 1);
    });
  t.throws(() => update([2, 9], [4, 2], null), { message: /lora_A: expected \[2, 8\], got \[2, 9\]/ });
  t.throws(() => update([2, 8], [5, 2], null), { message: /lora_B: expected \[4, 2\], got \[5, 2\]/ });
  t.throws(() => update([2, 8], [4, 2], 5), { message: /lora_magnitude_vector: expected \[4\], got \[5\]/ });
  t.same(attach(unet, 'empty', new Map()).variables(), []);
});
