import { useEngine } from '@equipoise/backend';
import { requireClose, requireGradients, requireNoLeak } from '@equipoise/testing';
import * as tf from '@tensorflow/tfjs-core';
import t from 'tap';
import {
  bf16Tolerance,
  ENGINES,
  GRADIENT_PARITY,
  inBf16,
  ModelFixture,
  PARITY,
} from '../testing/model-fixture.js';
import { sinusoidalEmbedding, UNet2DConditionModel, type UNetOptions } from './index.js';

const NAMES = ['unet-sd1', 'unet-sd2', 'unet-sdxl'] as const;

interface Loaded {
  fixture: ModelFixture;
  model: UNet2DConditionModel;
  timesteps: number[];
  sample: tf.Tensor4D;
  context: tf.Tensor3D;
  options: UNetOptions;
}

async function load(name: string): Promise<Loaded> {
  const fixture = new ModelFixture(name);
  const state = fixture.state();
  const model = await UNet2DConditionModel.load(fixture.config, state);
  t.same(state.remaining(), [], 'every tensor of the checkpoint is used');
  const timeIds = fixture.scalars.time_ids as number[][] | undefined;
  const added = timeIds && { textEmbeds: fixture.tensor<tf.Tensor2D>('in:text_embeds'), timeIds };
  return {
    fixture,
    model,
    timesteps: fixture.scalars.timesteps as number[],
    sample: fixture.tensor('in:sample'),
    context: fixture.tensor('in:context'),
    options: added === undefined ? {} : { added },
  };
}

/** Gradients of sum(out * probe) for the fixture's inputs and weights, by the fixture's names. */
function gradients(loaded: Loaded, recompute: boolean): Map<string, tf.Tensor> {
  const { fixture, model, timesteps, sample, context, options } = loaded;
  const keys = fixture.keys('grad:');
  const weights = model.setTrainable((name) => keys.includes(`w:${name}`));
  const inputs: Record<string, tf.Tensor> = { sample, context };
  if (options.added !== undefined) inputs.text_embeds = options.added.textEmbeds;
  const sources = keys.map((key) => (key.startsWith('w:') ? weights.get(key.slice(2))! : inputs[key]!));
  const probe = fixture.tensor('in:probe');
  const { value, grads } = tf
    .engine()
    .gradients(
      () => tf.sum(tf.mul(model.forward(sample, timesteps, context, { ...options, recompute }), probe)),
      sources,
    );
  tf.dispose([value, probe]);
  return new Map(keys.map((key, i) => [key, grads[i]!]));
}

/** Filters come as [h, w, in, out]; the fixture has torch's order. */
function torchOrder(key: string, grad: tf.Tensor, shape: number[]): tf.Tensor {
  if (!key.startsWith('w:') || shape.length !== 4) return grad;
  const reordered = grad.rank === 4 ? tf.transpose(grad, [3, 2, 0, 1]) : tf.reshape(grad, shape);
  grad.dispose();
  return reordered;
}

t.test('time embedding: the reference values', async (t) => {
  await useEngine('cpu');
  const options = { flipSinToCos: true, freqShift: 0 };
  const steps = await sinusoidalEmbedding([981], { dim: 320, ...options }).data();
  const expected = [
    0.679957, -0.798429, 0.578064, 0.994606, 0.733252, 0.602089, 0.815991, 0.109848, 0.103726,
  ];
  const actual = [0, 1, 2, 159, 160, 161, 162, 318, 319].map((i) => steps[i]!);
  // 1e-4: the argument reaches 1000, where one f32 step is 6e-5.
  requireClose('t = 981', [...actual.slice(0, 1), ...actual.slice(3)], [expected[0]!, ...expected.slice(3)], {
    absolute: 1e-4,
  });
  const sizes = await sinusoidalEmbedding([1024], { dim: 256, ...options }).data();
  requireClose(
    '1024',
    [...sizes.slice(0, 3), ...sizes.slice(128, 131)],
    [0.987354, -0.537617, 0.683457, -0.158533, -0.843189, 0.72999],
    { absolute: 1e-4 },
  );
  const sines = await sinusoidalEmbedding([3], { dim: 4, flipSinToCos: false, freqShift: 1 }).data();
  requireClose('sines first', sines, [Math.sin(3), Math.sin(3e-4), Math.cos(3), Math.cos(3e-4)], {
    absolute: 1e-6,
  });
  t.pass('cosines first, sines first');
});

async function parity(t: Tap, name: string): Promise<void> {
  const { fixture, model, timesteps, sample, context, options } = await load(name);
  await fixture.check('out:sample', model.forward(sample, timesteps, context, options), PARITY);
  t.pass('text as embeddings');
  const cache = model.crossAttentionCache(context);
  await fixture.check('out:sample', model.forward(sample, timesteps, cache, options), PARITY);
  t.pass('text as keys and values');
  await requireNoLeak(name, () => model.forward(sample, timesteps, cache, options).dispose(), { repeats: 1 });
  if (fixture.keys('out:').includes('guided')) {
    const one = tf.slice(sample, [0, 0, 0, 0], [1, -1, -1, -1]);
    await fixture.check('out:guided', model.forward(one, timesteps[0]!, cache), PARITY);
    t.pass('one latent against two texts');
  }
  const before = tf.memory().numTensors;
  cache.dispose();
  model.dispose();
  const freed = before - tf.memory().numTensors;
  t.ok(freed > fixture.keys('w:').length, `weights and cache are freed (${freed})`);
}

type Tap = typeof t;

for (const engine of ENGINES) {
  t.test(`on ${engine}`, async (t) => {
    t.before(() => useEngine(engine));
    for (const name of NAMES) t.test(`${name}: output`, (t) => parity(t as Tap, name));

    t.test('bf16', { skip: engine === 'cpu' && 'f32 only' }, (t) =>
      inBf16(engine, async () => {
        for (const name of NAMES) {
          const { fixture, model, timesteps, sample, context, options } = await load(name);
          const out = model.forward(sample, timesteps, context, options);
          await fixture.check('out:sample', out, bf16Tolerance(name, 'out:sample'));
          t.pass(name);
          model.dispose();
        }
      }),
    );

    for (const name of NAMES) {
      t.test(`${name}: gradients`, async (t) => {
        const loaded = await load(name);
        // Recomputing is the same code whatever the architecture.
        for (const recompute of name === 'unet-sd2' ? [false, true] : [false]) {
          const tensors = tf.memory().numTensors;
          const grads = gradients(loaded, recompute);
          t.equal(tf.memory().numTensors, tensors + grads.size, 'nothing but the gradients is left');
          for (const [key, grad] of grads) {
            const { fixture } = loaded;
            await fixture.check(
              `grad:${key}`,
              torchOrder(key, grad, fixture.shape(`grad:${key}`)),
              GRADIENT_PARITY,
            );
            t.pass(`${key}${recompute ? ', recomputed' : ''}`);
          }
        }
        loaded.model.dispose();
      });
    }

    t.test('recomputing keeps less for the gradient', { skip: engine === 'cpu' && 'slow' }, async (t) => {
      const { model, timesteps, sample, context } = await load('unet-sd1');
      const kept = [false, true].map((recompute) => {
        let bytes = 0;
        const before = tf.memory().numBytes;
        const f = () => {
          const out = model.forward(sample, timesteps, context, { recompute });
          bytes = tf.memory().numBytes - before;
          return tf.sum(out);
        };
        const { value, grads } = tf.engine().gradients(f, [sample]);
        tf.dispose([value, grads]);
        return bytes;
      }) as [number, number];
      t.ok(kept[1] < kept[0] / 3, `${kept[1]} bytes instead of ${kept[0]}`);
    });

    t.test('gradients agree with finite differences', { skip: engine === 'cpu' && 'slow' }, async (t) => {
      const { model, sample, context } = await load('unet-sd2');
      const f = (sample: tf.Tensor, context: tf.Tensor) =>
        model.forward(sample as tf.Tensor4D, 500, context as tf.Tensor3D);
      const inputs = [sample, context].map((input) => ({
        shape: input.shape,
        values: input.dataSync<'float32'>(),
      }));
      const checks = await requireGradients('unet-sd2', f, inputs, {
        relative: 2e-2,
        absolute: 2e-2,
        directions: 2,
      });
      t.equal(checks.length, 4);
    });
  });
}

t.test('bad input is refused by name', async (t) => {
  const { fixture, model, sample, context } = await load('unet-sdxl');
  const bad = (change: object) => () => new UNet2DConditionModel({ ...fixture.config, ...change });
  t.throws(bad({ _class_name: 'UNet3DConditionModel' }), /class: expected UNet2DConditionModel, got "UNet3D/);
  t.throws(
    bad({ class_embed_type: 'timestep' }),
    /class_embed_type: expected null \(other values are not supported\)/,
  );
  t.throws(
    bad({ down_block_types: ['AttnDownBlock2D', 'DownBlock2D', 'DownBlock2D'] }),
    /down_block_types\[0\].*got "AttnDownBlock2D"/,
  );
  t.throws(bad({ up_block_types: ['UpBlock2D'] }), /up_block_types: expected 3 entries/);
  t.throws(bad({ attention_head_dim: [2, 4] }), /attention_head_dim: expected 3 entries/);
  t.throws(
    bad({ norm_num_groups: 5 }),
    /block_out_channels\[0\]: expected a multiple of norm_num_groups \(5\)/,
  );
  t.throws(bad({ addition_time_embed_dim: null }), /addition_time_embed_dim: expected a number/);
  t.throws(
    bad({ cross_attention_dim: -1 }),
    /cross_attention_dim: expected an integer of at least 1, got -1/,
  );
  t.throws(
    bad({ layers_per_block: 1e9 }),
    /layers_per_block: expected an integer from 1 to 1000, got 1000000000/,
  );
  t.throws(
    bad({ transformer_layers_per_block: [1, 1, 1e6] }),
    /transformer_layers_per_block\[2\]: expected an integer from 1 to 1000/,
  );
  const warned = new UNet2DConditionModel({ ...fixture.config, cross_attention_dimm: 3 });
  t.match(warned.warnings, [
    /unknown key "cross_attention_dimm" ignored \(did you mean cross_attention_dim\?\)/,
  ]);
  t.throws(() => model.forward(sample, 1, context), /added: expected textEmbeds and timeIds/);
  t.throws(
    () => model.forward(tf.zeros([1, 8, 8, 3]), 1, context),
    /sample: expected latents \[B, H, W, 4\]/,
  );
  t.throws(() => model.forward(sample, Number.NaN, context), /timestep: expected finite numbers/);
  t.throws(() => model.forward(sample, [1, 2, 3], context), /timestep: expected 1 or 2 or 2 numbers, got 3/);
  const narrow = tf.zeros([1, 3]) as tf.Tensor2D;
  t.throws(() => model.forward(sample, narrow, context), /timestep: expected features \[timesteps, \d+\]/);
  narrow.dispose();
  t.throws(
    () => model.forward(sample, 1, tf.zeros([3, 7, 40])),
    /context: expected a multiple of 2 texts, got 3/,
  );
  t.throws(() => model.forward(sample, 1, tf.zeros([1, 7, 3])), /context: expected \[B, L, 40\]/);
  t.throws(() => new UNet2DConditionModel(fixture.config).forward(sample, 1, context), /added|weights/);
  const other = await load('unet-sd2');
  const cache = other.model.crossAttentionCache(other.context);
  const { sample: x } = await load('unet-sd1');
  const { model: stranger, context: text } = await load('unet-sd1');
  t.throws(() => stranger.forward(x, 1, cache), /expected a cache made by this model/);
  tf.tidy(() => {
    const features = stranger.timestepFeatures([400]);
    const outputs = [features, 400].map((time) => stranger.forward(x, time, text).dataSync());
    t.same(outputs[0], outputs[1], 'features stand for their timestep');
  });
});
