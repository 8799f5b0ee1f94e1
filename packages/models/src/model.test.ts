import { gunzipSync } from 'node:zlib';
import { linear, useEngine } from '@equipoise/backend';
import { parseJson } from '@equipoise/core';
import { requireClose } from '@equipoise/testing';
import { openSafetensors, StateDict, writeSafetensors } from '@equipoise/weights';
import * as tf from '@tensorflow/tfjs-core';
import t from 'tap';
import {
  AutoencoderKL,
  CLIPModel,
  CLIPTextModel,
  CLIPTextModelWithProjection,
  CLIPVisionModel,
  type LinearAdapter,
  type ManifestEntry,
  UNet2DConditionModel,
} from './index.js';
import { ModelFixture, referenceKeys } from './testing/model-fixture.js';

await useEngine('equipoise-cpu');

type Reference = Record<string, { config: Record<string, unknown>; keys: Record<string, number[]> }>;
const REFERENCE = parseJson(gunzipSync(referenceKeys()).toString(), 'keys.json.gz') as unknown as Reference;

/** Tensors and parameters as published. */
const SIZES: [
  name: string,
  type: { manifest(config: unknown): ManifestEntry[] },
  keys: number,
  parameters: number,
][] = [
  ['unet-sd15', UNet2DConditionModel, 686, 859_520_964],
  ['unet-sd21', UNet2DConditionModel, 686, 865_910_724],
  ['unet-sdxl', UNet2DConditionModel, 1680, 2_567_463_684],
  ['vae', AutoencoderKL, 248, 83_653_863],
  ['clip-text-l14', CLIPTextModel, 196, 123_060_480],
  ['clip-text-h14', CLIPTextModel, 372, 340_387_840],
  ['clip-text-bigg', CLIPTextModelWithProjection, 517, 694_659_840],
  ['clip-vision-l14', CLIPVisionModel, 391, 303_179_776],
  ['clip-l14', CLIPModel, 590, 427_616_513],
  ['clip-b32', CLIPModel, 398, 151_277_313],
];

for (const [name, type, keys, parameters] of SIZES) {
  t.test(`${name}: the reference's keys and shapes`, async (t) => {
    const { config, keys: expected } = REFERENCE[name]!;
    const manifest = type.manifest(config);
    t.equal(manifest.length, keys);
    const count = manifest.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
    t.equal(count, parameters);
    // transformers 5 leaves out the tower's prefix of these two classes; we always write it.
    const prefix =
      { 'clip-text-l14': 'text_model.', 'clip-text-h14': 'text_model.', 'clip-vision-l14': 'vision_model.' }[
        name
      ] ?? '';
    const named = Object.entries(expected).map(([key, shape]) => [prefix + key, shape]);
    t.same(Object.fromEntries(manifest.map(({ name, shape }) => [name, shape])), Object.fromEntries(named));
  });
}

const TINY = new ModelFixture('unet-sd2');

t.test(
  'random weights: a function of the seed alone, distributed as the reference initialises',
  async (t) => {
    const read = async (seed: number) => {
      const model = UNet2DConditionModel.random(TINY.config, seed);
      const values = new Map<string, Float32Array>();
      for (const { name, read } of model.stateDict()) values.set(name, (await read()).slice());
      model.dispose();
      return values;
    };
    const [first, again, other] = [await read(7), await read(7), await read(8)];
    t.ok([...first].every(([name, values]) => same(values, again.get(name)!)));
    t.notOk(same(first.get('conv_in.weight')!, other.get('conv_in.weight')!), 'another seed');
    t.notSame(
      first.get('down_blocks.0.resnets.0.conv2.weight'),
      first.get('mid_block.resnets.0.conv2.weight'),
    );
    const bound = 1 / Math.sqrt(16 * 9);
    const filter = first.get('down_blocks.0.resnets.0.conv2.weight')!;
    const largest = filter.reduce((top, value) => Math.max(top, Math.abs(value)), 0);
    t.ok(largest <= bound && largest > 0.98 * bound, `uniform up to ${bound}: ${largest}`);
    t.ok(first.get('conv_norm_out.weight')!.every((value) => value === 1));
    const text = CLIPTextModel.random(new ModelFixture('clip-text-l').config, 1);
    const table = await text.stateDict()[0]!.read();
    const std = Math.hypot(...table) / Math.sqrt(table.length);
    t.ok(Math.abs(std - 0.02) < 1e-3, `embeddings have standard deviation 0.02: ${std}`);
    t.throws(
      () => UNet2DConditionModel.random(TINY.config, -1),
      /seed: expected a non-negative integer, got -1/,
    );
  },
);

t.test('what is loaded is given back, in every dtype', async (t) => {
  const model = await UNet2DConditionModel.load(TINY.config, TINY.state());
  const state = new Map(model.stateDict().map((entry) => [entry.name, entry]));
  const values = await state.get('conv_in.weight')!.read();
  const half = new Uint16Array(TINY.bytes('w:conv_in.weight').buffer);
  t.same(state.get('conv_in.weight')!.shape, TINY.shape('w:conv_in.weight'));
  requireClose('conv_in.weight', values, [...half].map(fromHalf), { absolute: 0 });
  // Once around through a file: torch's layout survives.
  const path = `${t.testdir()}/unet.safetensors`;
  await writeSafetensors(path, model.tensorSources(), { metadata: { format: 'pt' } });
  await using file = await openSafetensors(path);
  const copy = await UNet2DConditionModel.load(TINY.config, new StateDict(file.tensors.values(), path));
  const different: string[] = [];
  for (const { name, read } of copy.stateDict()) {
    if (!same(await read(), await state.get(name)!.read())) different.push(name);
  }
  t.same(different, []);
  t.same([...file.tensors.keys()].sort(), TINY.keys('w:').sort(), 'the reference names');
});

t.test('a checkpoint that lacks a tensor leaves nothing behind', async (t) => {
  const before = tf.memory().numTensors;
  const lacking = TINY.state((key) => (key === 'conv_out.bias' ? 'conv_out.bia' : key));
  await t.rejects(
    UNet2DConditionModel.load(TINY.config, lacking),
    /conv_out.bias" \[4\]; nearest: "conv_out.bia"/,
  );
  const whole = TINY.state();
  const failing = {
    has: (name: string) => whole.has(name),
    take: (name: string, shape: readonly number[]) => {
      const read = () => Promise.reject(new Error('the disk is gone'));
      return name === 'conv_out.bias' ? { dtype: 'F32', read } : whole.take(name, shape);
    },
  };
  await t.rejects(UNet2DConditionModel.load(TINY.config, failing), /the disk is gone/);
  const integers = { ...failing, take: (name: string) => ({ dtype: 'I64', read: () => Buffer.from(name) }) };
  await t.rejects(
    UNet2DConditionModel.load(TINY.config, integers),
    /"conv_in.weight": dtype: expected F32, F16 or BF16/,
  );
  t.equal(tf.memory().numTensors, before);
  const done: number[] = [];
  const model = await UNet2DConditionModel.load(TINY.config, TINY.state(), {
    onProgress: (count) => done.push(count),
  });
  t.same(
    done,
    Array.from({ length: model.manifest().length }, (_, i) => i + 1),
  );
  const numbers = TINY.keys('w:').reduce((sum, key) => sum + TINY.bytes(`w:${key}`).length / 2, 0);
  t.equal(model.parameterCount, numbers);
});

t.test('adapters attach to linear layers by path', async (t) => {
  const model = await UNet2DConditionModel.load(TINY.config, TINY.state());
  const linears = new Map(model.namedLinears());
  const targets = [...linears.keys()].filter((name) => /\.(to_q|to_k|to_v|to_out\.0)$/.test(name));
  t.equal(targets.length, 7 * 8, 'seven transformer blocks of eight projections');
  const sd15 = new UNet2DConditionModel(REFERENCE['unet-sd15']!.config);
  const names = [...sd15.namedLinears()].map(([name]) => name);
  t.equal(names.filter((name) => /\.(to_q|to_k|to_v|to_out\.0)$/.test(name)).length, 128);
  t.ok(
    names.some((name) => name.endsWith('proj_in')),
    'a 1x1 convolution is a linear layer over channels',
  );

  const layer = linears.get('down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k')!;
  const [sample, context] = [TINY.tensor<tf.Tensor4D>('in:sample'), TINY.tensor<tf.Tensor3D>('in:context')];
  const output = () => model.forward(sample, 500, context).dataSync<'float32'>();
  const plain = output();
  const delta = tf.variable(tf.randomUniform([layer.outFeatures, layer.inFeatures], -0.1, 0.1, 'float32', 1));
  const adapter: LinearAdapter = {
    forward: (x, base) => tf.add(base.base(x), linear(x, delta, null)),
    variables: () => [delta],
  };
  layer.adapter = adapter;
  const adapted = output();
  t.notOk(same(adapted, plain));
  t.same(model.trainableVariables(), [delta]);
  const merged = tf.add(layer.weight.value, delta);
  const slope = (recompute: boolean) => {
    const f = () => tf.sum(model.forward(sample, 500, context, { recompute })) as tf.Scalar;
    return tf.variableGrads(f, [delta]).grads[delta.name]!.dataSync();
  };
  const direct = slope(false);
  t.ok(direct.some((value) => Math.abs(value) > 1e-3));
  requireClose('gradient when recomputed', slope(true), direct, { absolute: 1e-4, relative: 1e-4 });
  layer.adapter = null;
  t.ok(same(output(), plain), 'removing the adapter restores the model');
  layer.weight.assign(merged);
  requireClose('merged', output(), adapted, { absolute: 1e-5 });
});

t.test('weights can be made trainable and frozen again', async (t) => {
  const model = await UNet2DConditionModel.load(TINY.config, TINY.state());
  const before = tf.memory().numTensors;
  const values = model.stateDict()[0]!;
  const original = await values.read();
  const variables = model.setTrainable((name) => name.startsWith('conv_in'));
  t.same([...variables.keys()], ['conv_in.weight', 'conv_in.bias']);
  t.equal(model.trainableVariables().length, 2);
  variables.get('conv_in.bias')!.assign(tf.ones([16]));
  t.equal(model.setTrainable(() => false).size, 0);
  t.same(await values.read(), original);
  t.ok(
    (
      await model
        .stateDict()
        .find(({ name }) => name === 'conv_in.bias')!
        .read()
    ).every((value) => value === 1),
  );
  t.equal(tf.memory().numTensors, before + 1, 'only the ones are left');
});

function same(a: Float32Array, b: Float32Array): boolean {
  return a.length === b.length && a.every((value, i) => value === b[i]);
}

function fromHalf(bits: number): number {
  const exponent = (bits >> 10) & 31;
  const mantissa = bits & 1023;
  const magnitude = exponent === 0 ? mantissa * 2 ** -24 : (1 + mantissa / 1024) * 2 ** (exponent - 15);
  return bits & 0x8000 ? -magnitude : magnitude;
}
