import { useEngine } from '@equipoise/backend';
import { requireClose, requireGradients, requireNoLeak } from '@equipoise/testing';
import * as tf from '@tensorflow/tfjs-core';
import t from 'tap';
import type { Model } from '../model.js';
import {
  bf16Tolerance,
  ENGINES,
  GRADIENT_PARITY,
  inBf16,
  ModelFixture,
  PARITY,
} from '../testing/model-fixture.js';
import {
  CLIPModel,
  CLIPTextModel,
  CLIPTextModelWithProjection,
  CLIPVisionModel,
  CLIPVisionModelWithProjection,
  type ClipTextOutput,
  type ClipTextTransformer,
} from './index.js';

type TextModel = Model & {
  textModel: ClipTextTransformer;
  forward(ids: number[][], options?: object): ClipTextOutput & { textEmbeds?: tf.Tensor2D };
};

const ids = (fixture: ModelFixture) => fixture.scalars.ids as number[][];

/** A text fixture's model; keys are looked up as the file spells them. */
async function loadText(name: string): Promise<{ fixture: ModelFixture; model: TextModel }> {
  const fixture = new ModelFixture(name);
  const type = name === 'clip-text-projected' ? CLIPTextModelWithProjection : CLIPTextModel;
  const state = fixture.state();
  const model = await type.load(fixture.config, state);
  t.same(state.remaining(), [], 'every tensor of the checkpoint is used');
  return { fixture, model };
}

/** Compares gradients of `loss` for the inputs and weights that the fixture has gradients of. */
async function checkGradients(
  t: { pass(message: string): unknown },
  fixture: ModelFixture,
  model: Model,
  inputs: Record<string, tf.Tensor>,
  loss: () => tf.Scalar,
): Promise<void> {
  const keys = fixture.keys('grad:');
  // transformers 5 leaves out the tower's prefix in some files.
  const keyOf = (name: string) => keys.find((key) => key.startsWith('w:') && name.endsWith(key.slice(2)));
  const weights = model.setTrainable((name) => keyOf(name) !== undefined);
  const variables = new Map([...weights].map(([name, variable]) => [keyOf(name), variable]));
  const sources = keys.map((key) => inputs[key] ?? variables.get(key)!);
  const { grads } = tf.engine().gradients(loss, sources);
  for (const [i, key] of keys.entries()) {
    const filter = fixture.shape(`grad:${key}`).length === 4 && key.startsWith('w:');
    const grad = filter ? tf.transpose(grads[i]!, [3, 2, 0, 1]) : grads[i]!;
    await fixture.check(`grad:${key}`, grad, GRADIENT_PARITY);
    t.pass(key);
  }
}

for (const engine of ENGINES) {
  t.test(`on ${engine}`, async (t) => {
    t.before(() => useEngine(engine));

    for (const name of ['clip-text-l', 'clip-text-h', 'clip-text-projected']) {
      t.test(name, async (t) => {
        const { fixture, model } = await loadText(name);
        const output = model.forward(ids(fixture), { outputHiddenStates: true });
        await fixture.check('out:last', output.lastHiddenState, PARITY);
        await fixture.check('out:pooled', output.textEmbeds ?? output.pooled, PARITY);
        t.equal(output.hiddenStates.length, 4);
        for (const [i, state] of output.hiddenStates.entries())
          await fixture.check(`out:hidden.${i}`, state, PARITY);
        const last = fixture.tensor<tf.Tensor>('in:last_probe');
        const pooled = fixture.tensor<tf.Tensor>('in:pooled_probe');
        await checkGradients(t, fixture, model, {}, () => {
          const { lastHiddenState, pooled: state, textEmbeds } = model.forward(ids(fixture));
          return tf.add(tf.sum(tf.mul(lastHiddenState, last)), tf.sum(tf.mul(textEmbeds ?? state, pooled)));
        });
        await requireNoLeak(name, () =>
          tf.dispose(model.forward(ids(fixture), { outputHiddenStates: true })),
        );
      });
    }

    t.test('bf16', { skip: engine === 'cpu' && 'f32 only' }, (t) =>
      inBf16(engine, async () => {
        for (const name of ['clip-text-l', 'clip-text-h', 'clip-text-projected']) {
          const { fixture, model } = await loadText(name);
          const { lastHiddenState } = model.forward(ids(fixture));
          await fixture.check('out:last', lastHiddenState, bf16Tolerance(name, 'out:last'));
          t.pass(name);
        }
        const fixture = new ModelFixture('clip-vision');
        const model = await CLIPVisionModel.load(fixture.config, fixture.state());
        const { lastHiddenState } = model.forward(fixture.tensor('in:pixels'));
        // Two layers are few enough roundings for the project's goal.
        await fixture.check('out:last', lastHiddenState, { relativeNorm: 2e-3 });
        t.pass('clip-vision');
      }),
    );

    t.test('a cached prefix changes no number', async (t) => {
      const { fixture, model } = await loadText('clip-text-l');
      const { textModel } = model;
      const embeddings = textModel.embed(ids(fixture));
      const split = 5;
      // One beginning for both texts, as ITI-GEN has it; each text goes on in its own way.
      const start = tf.slice(embeddings, [0, 0, 0], [1, split, -1]) as tf.Tensor3D;
      const rest = tf.slice(embeddings, [0, split, 0], [2, 4, -1]) as tf.Tensor3D;
      const full = (rest: tf.Tensor3D) =>
        tf.tidy(() => {
          const whole = tf.concat([tf.concat([start, start], 0), rest], 1);
          return tf.slice(
            textModel.forwardEmbeddings(whole, [0, 0]).lastHiddenState,
            [0, split, 0],
            [2, 4, -1],
          );
        });
      const before = tf.memory().numTensors;
      const prefix = textModel.prefix(start);
      t.equal(prefix.length, split);
      const short = (rest: tf.Tensor3D) => textModel.forwardFrom(prefix, rest);
      requireClose('states', short(rest).dataSync(), full(rest).dataSync(), { absolute: 1e-5 });
      const slope = (f: (rest: tf.Tensor3D) => tf.Tensor) =>
        tf
          .grad((x: tf.Tensor) => tf.sum(tf.square(f(x as tf.Tensor3D))))(rest)
          .dataSync<'float32'>();
      requireClose('gradients', slope(short), slope(full), { absolute: 1e-4, relative: 1e-5 });
      await requireNoLeak('forwardFrom', () => short(rest).dispose());
      prefix.dispose();
      t.ok(tf.memory().numTensors - before < 10, 'the prefix is freed');
      t.throws(
        () => textModel.forwardFrom(prefix, tf.zeros([2, 8, 32])),
        /embeddings: expected .* L at most 7/,
      );
    });

    for (const name of ['clip-vision', 'clip-vision-projected']) {
      t.test(name, async (t) => {
        const fixture = new ModelFixture(name);
        const type = name === 'clip-vision' ? CLIPVisionModel : CLIPVisionModelWithProjection;
        const model = await type.load(fixture.config, fixture.state());
        const pixels = fixture.tensor<tf.Tensor4D>('in:pixels');
        const result = (): { lastHiddenState: tf.Tensor; pooled: tf.Tensor } => {
          const output = model.forward(pixels);
          return 'imageEmbeds' in output ? { ...output, pooled: output.imageEmbeds as tf.Tensor } : output;
        };
        await fixture.check('out:pooled', result().pooled, PARITY);
        await fixture.check('out:last', result().lastHiddenState, PARITY);
        const probe = fixture.tensor('in:probe');
        await checkGradients(t, fixture, model, { pixels }, () => tf.sum(tf.mul(result().pooled, probe)));
        await requireNoLeak(name, () => tf.dispose(model.forward(pixels)));
      });
    }

    t.test('clip: both towers', async (t) => {
      const fixture = new ModelFixture('clip');
      const model = await CLIPModel.load(fixture.config, fixture.state());
      const output = model.forward(ids(fixture), fixture.tensor('in:pixels'));
      await fixture.check('out:text_embeds', output.textEmbeds, PARITY);
      await fixture.check('out:image_embeds', output.imageEmbeds, PARITY);
      await fixture.check('out:logits_per_image', output.logitsPerImage, PARITY);
      // The towers of a CLIPModel can be used alone, from the same files.
      const text = await CLIPTextModelWithProjection.load(fixture.config, fixture.state());
      const { textEmbeds } = text.forward(ids(fixture));
      requireClose('text tower', textEmbeds.dataSync(), model.textFeatures(ids(fixture)).dataSync(), {
        absolute: 1e-6,
      });
      const vision = await CLIPVisionModel.load(fixture.config, fixture.state());
      const { pooled } = vision.forward(fixture.tensor('in:pixels'));
      t.same(pooled.shape, [2, 32]);
    });

    t.test('gradients agree with finite differences', async (t) => {
      const { model } = await loadText('clip-text-h');
      const embeddings = model.textModel.embed([[61, 4, 62, 3]]);
      const f = (x: tf.Tensor) => model.textModel.forwardEmbeddings(x as tf.Tensor3D, [2]).lastHiddenState;
      // Embeddings are small and normed at once: a step as large as usual would leave the linear range.
      const input = { shape: embeddings.shape, values: embeddings.dataSync<'float32'>() };
      const limits = { relative: 3e-2, absolute: 0.1, step: 1e-3, directions: 2 };
      t.equal((await requireGradients('text', f, [input], limits)).length, 2);
    });
  });
}

t.test('checkpoints with and without the prefix of the tower', async (t) => {
  const fixture = new ModelFixture('clip-text-l');
  const bare = fixture.keys('w:').every((key) => !key.startsWith('text_model.'));
  t.ok(bare, 'transformers 5 saves this class without the prefix');
  const spellings = [(key: string) => key, (key: string) => `text_model.${key}`];
  const outputs = [];
  for (const rename of spellings) {
    const model = await CLIPTextModel.load(fixture.config, fixture.state(rename));
    t.ok(
      model.stateDict().every(({ name }) => name.startsWith('text_model.')),
      'what we write has it',
    );
    outputs.push(model.forward([[61, 62]]).lastHiddenState.dataSync());
  }
  t.same(outputs[0], outputs[1]);
});

t.test('the end of a text', async (t) => {
  const config = new ModelFixture('clip-text-h').config;
  const tower = (eos: number) => new CLIPTextModel({ ...config, eos_token_id: eos }).textModel;
  t.equal(tower(62).endOfText([61, 5, 62, 63, 62]), 2, 'the first end token');
  t.equal(
    tower(2).endOfText([61, 5, 62, 63, 63]),
    3,
    'the first largest id, where the config has the old mistake',
  );
  t.equal(tower(62).endOfText([61, 5, 6]), 0, 'no end token: the reference takes the first position');
});

t.test('bad input is refused by name', async (t) => {
  const { fixture, model } = await loadText('clip-text-l');
  t.throws(() => model.forward([[0, 64]]), /ids: expected integers from 0 to 63, got 64/);
  t.throws(() => model.forward([[1, 2], [1]]), /ids: expected texts of one length \(2\), got 1/);
  t.throws(() => model.forward([new Array(13).fill(1)]), /ids: expected texts of 1 to 12 tokens, got 13/);
  const bad = (change: object) => () => new CLIPTextModel({ ...fixture.config, ...change });
  t.throws(bad({ hidden_act: 'gelu_new' }), /hidden_act: expected "quick_gelu" or "gelu", got "gelu_new"/);
  t.throws(bad({ num_hidden_layers: 1e8 }), /num_hidden_layers: expected an integer from 1 to 1000/);
  t.throws(
    () => new CLIPTextModel({ ...fixture.config, hidden_act: 'relu' }, 'text/config.json'),
    { message: /^text\/config\.json: hidden_act: / },
    'the file is named where it is known',
  );
  t.throws(
    bad({ model_type: 'siglip_text_model', _class_name: undefined }),
    /model_type: expected clip_text_model or clip/,
  );
  t.throws(
    bad({ architectures: ['T5EncoderModel'], _class_name: undefined }),
    /class: expected CLIPTextModel .*got "T5/,
  );
  t.throws(bad({ num_attention_heads: 5 }), /hidden_size: expected a multiple of the 5 heads, got 32/);
  const vision = new ModelFixture('clip-vision');
  const tower = await CLIPVisionModel.load(vision.config, vision.state());
  t.throws(() => tower.forward(tf.zeros([1, 8, 12, 3])), /pixels: expected \[B, 12, 12, 3\]/);
});
