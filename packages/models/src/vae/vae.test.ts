import { useEngine } from '@equipoise/backend';
import { requireGradients, requireNoLeak } from '@equipoise/testing';
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
import { AutoencoderKL } from './index.js';

const fixture = new ModelFixture('vae');
const load = () => AutoencoderKL.load(fixture.config, fixture.state());

/** Compares the gradients of sum(f() * probe) with the fixture's. */
async function checkGradients(
  t: { pass(message: string): unknown },
  model: AutoencoderKL,
  inputs: Record<string, tf.Tensor>,
  weightPrefix: RegExp,
  f: () => tf.Tensor,
  probe: tf.Tensor,
): Promise<void> {
  const keys = fixture.keys('grad:').filter((key) => key in inputs || weightPrefix.test(key));
  const weights = model.setTrainable((name) => keys.includes(`w:${name}`));
  const sources = keys.map((key) => inputs[key] ?? weights.get(key.slice(2))!);
  const { grads } = tf.engine().gradients(() => tf.sum(tf.mul(f(), probe)), sources);
  for (const [i, key] of keys.entries()) {
    const shape = fixture.shape(`grad:${key}`);
    const filter = key.startsWith('w:') && shape.length === 4;
    const grad = grads[i]!;
    const torch = !filter
      ? grad
      : grad.rank === 4
        ? tf.transpose(grad, [3, 2, 0, 1])
        : tf.reshape(grad, shape);
    await fixture.check(`grad:${key}`, torch, GRADIENT_PARITY);
    t.pass(key);
  }
}

for (const engine of ENGINES) {
  t.test(`on ${engine}`, async (t) => {
    t.before(() => useEngine(engine));

    t.test('encode', async (t) => {
      const model = await load();
      const image = fixture.tensor<tf.Tensor4D>('in:image');
      const distribution = model.encode(image);
      await fixture.check('out:moments', tf.clone(distribution.moments), PARITY);
      await fixture.check('out:latent_sample', distribution.sample(fixture.tensor('in:noise')), PARITY);
      const mean = tf.slice(distribution.moments, [0, 0, 0, 0], [-1, -1, -1, 4]);
      t.same(distribution.mode().dataSync(), mean.dataSync(), 'the mode is the mean');
      await requireNoLeak('encode', () => model.encode(image).dispose());
    });

    t.test('decode', async (t) => {
      const model = await load();
      const latents = fixture.tensor<tf.Tensor4D>('in:latents');
      await fixture.check('out:decoded', model.decode(latents), PARITY);
      await requireNoLeak('decode', () => model.decode(latents).dispose());
      t.pass('decoded');
    });

    t.test('bf16', { skip: engine === 'cpu' && 'f32 only' }, (t) =>
      inBf16(engine, async () => {
        const model = await load();
        const moments = model.encode(fixture.tensor('in:image')).moments;
        await fixture.check('out:moments', moments, bf16Tolerance('vae', 'out:moments'));
        const decoded = model.decode(fixture.tensor('in:latents'));
        await fixture.check('out:decoded', decoded, bf16Tolerance('vae', 'out:decoded'));
        t.pass('encode and decode');
      }),
    );

    t.test('tiles: the same picture as the reference, and none without need', async (t) => {
      const model = await load();
      const large = fixture.tensor<tf.Tensor4D>('in:large');
      const image = fixture.tensor<tf.Tensor4D>('in:large_image');
      await fixture.check('out:tiled', model.decodeTiled(large), PARITY);
      await fixture.check('out:tiled_moments', model.encodeTiled(image).moments, PARITY);
      t.pass('as the reference');
      const whole = model.decode(large);
      const oneTile = model.decodeTiled(large, { tileSize: 64, overlap: 0 });
      t.same(oneTile.shape, whole.shape);
      t.ok(
        tf.max(tf.abs(tf.sub(oneTile, whole))).dataSync()[0]! < 1e-5,
        'one tile that holds everything is no tiling',
      );
      await requireNoLeak('tiled', () => model.decodeTiled(large).dispose());
      t.throws(
        () => model.decodeTiled(large, { tileSize: 2 }),
        /tileSize: expected an integer of at least 4/,
      );
      t.throws(
        () => model.decodeTiled(large, { overlap: 1 }),
        /overlap: expected a share from 0 to below 1, got 1/,
      );
    });

    t.test('gradients', async (t) => {
      const model = await load();
      const image = fixture.tensor<tf.Tensor4D>('in:image');
      const latents = fixture.tensor<tf.Tensor4D>('in:latents');
      await checkGradients(
        t,
        model,
        { image },
        /^w:(encoder|quant)/,
        () => model.encode(image).moments,
        fixture.tensor('in:encode_probe'),
      );
      await checkGradients(
        t,
        model,
        { latents },
        /^w:decoder/,
        () => model.decode(latents),
        fixture.tensor('in:decode_probe'),
      );
    });

    t.test('gradients agree with finite differences', async (t) => {
      const model = await load();
      const input = (key: string) => [{ shape: fixture.shape(key), values: fixture.numbers(key) }];
      const limits = { relative: 2e-2, absolute: 5e-2, directions: 2 };
      const decode = (z: tf.Tensor) => model.decode(z as tf.Tensor4D);
      t.equal((await requireGradients('decode', decode, input('in:latents'), limits)).length, 2);
      const encode = (x: tf.Tensor) => model.encode(x as tf.Tensor4D).moments;
      t.equal(
        (await requireGradients('encode', encode, input('in:image'), { ...limits, step: 3e-3 })).length,
        2,
      );
    });
  });
}

t.test('scaling of latents', async (t) => {
  const model = new AutoencoderKL({ ...fixture.config, scaling_factor: 1.5, shift_factor: 0.25 });
  const z = tf.tensor4d([1, 2], [1, 1, 1, 2]);
  t.same([...(await model.toModelLatents(z).data())], [1.125, 2.625]);
  t.same([...(await model.fromModelLatents(model.toModelLatents(z)).data())], [1, 2]);
  t.equal(new AutoencoderKL({}).config.scaling_factor, 0.18215, 'the default of configs that leave it out');
});

t.test('bad input is refused by name', async (t) => {
  const model = await load();
  const bad = (change: object) => () => new AutoencoderKL({ ...fixture.config, ...change });
  t.throws(
    () => model.encode(tf.zeros([1, 18, 16, 3])),
    /images: expected \[B, H, W, 3\] with sides that are multiples of 4/,
  );
  t.throws(
    () => model.decode(tf.zeros([1, 4, 4, 16])),
    /latents: expected \[B, h, w, 4\], got \[1, 4, 4, 16\]/,
  );
  t.throws(bad({ latents_mean: [0] }), /latents_mean: expected null \(other values are not supported\)/);
  t.throws(
    bad({ up_block_types: ['AttnUpDecoderBlock2D'] }),
    /up_block_types\[0\]: expected "UpDecoderBlock2D"/,
  );
  t.throws(bad({ block_out_channels: [8, 16] }), /down_block_types: expected 2 entries/);
  t.throws(bad({ scaling_factor: 0 }), /scaling_factor: expected a positive number, got 0/);
});
