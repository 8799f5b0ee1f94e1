import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { useEngine } from '@equipoise/backend';
import { CLIPTextModel } from '@equipoise/models';
import { requireClose } from '@equipoise/testing';
import {
  float32Source,
  openAdapter,
  openFolder,
  openSafetensors,
  writeSafetensors,
} from '@equipoise/weights';
import * as tf from '@tensorflow/tfjs-core';
import t from 'tap';
import { loadAdapter, saveAdapter } from './index.js';
import {
  Bench,
  LORA_WEIGHT,
  openUnet,
  PARITY,
  PATHS,
  part,
  reference,
  values,
  weightsFixtures,
} from './testing/bench.js';

t.teardown(() => reference.close());

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
  const [ours, theirs] = await Promise.all(
    [join(out, 'pytorch_lora_weights.safetensors'), join(path, 'pytorch_lora_weights.safetensors')].map(
      (file) => readFile(file),
    ),
  );
  t.ok(ours?.equals(theirs as Buffer), 'saved again it is the same file');
  await saveAdapter(join(out, 'peft'), group.parts, { spelling: 'peft' });
  for (const name of ['unet', 'text_encoder']) {
    await using saved = await openAdapter(join(out, 'peft', name), { component: name });
    t.same([...saved.components.keys()], [name]);
  }
  await t.rejects(loadAdapter(path, { unet }, { name: 'other' }), {
    code: 'conflict',
    message: /expected an adapter for unet, got one for text_encoder too/,
  });
  await t.rejects(loadAdapter(path, { unet, text_encoder: text }), {
    code: 'conflict',
    message: /has an adapter called lora-unet-text already/,
  });
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
      const folder = await saveAdapter(join(out, name, spelling), group.parts, {
        spelling,
        baseModel: 'owner/model',
      });
      if (spelling === 'diffusers') {
        // diffusers takes all keys for what the first one is: a file may not mix its own endings with PEFT's.
        await using written = await openSafetensors(join(folder, 'pytorch_lora_weights.safetensors'));
        const endings = new Set([...written.tensors.keys()].map((key) => /\.lora[._].*$/.exec(key)?.[0]));
        const own =
          name === 'pointwise'
            ? ['.lora_A.weight', '.lora_B.weight']
            : ['.lora.down.weight', '.lora.up.weight'];
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
  tf.tidy(() =>
    part(half)
      .variables()[0]
      ?.assign(tf.fill(part(half).variables()[0]?.shape as number[], Number.NaN)),
  );
  await t.rejects(saveAdapter(join(out, 'nan'), half.parts), {
    code: 'numeric',
    message: /down\[0\]: expected a finite number, got NaN/,
  });
});

t.test(
  'an adapter for another architecture is refused layer by layer, and nothing is attached',
  async (t) => {
    await useEngine('equipoise-cpu');
    const unet = await openUnet();
    t.teardown(() => unet.dispose());
    const base = 'unet.down_blocks.0.attentions.0.transformer_blocks.0';
    const ones = (name: string, shape: number[]) =>
      float32Source(`${base}.${name}`, shape, new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(1));
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
    const numbers = (name: string, shape: number[], ...values: number[]) =>
      float32Source(`${base}.${name}`, shape, Float32Array.from(values));
    for (const bad of [Number.NaN, Number.NEGATIVE_INFINITY]) {
      await writeSafetensors(file, [
        ones('attn1.to_k.lora.down.weight', [1, 4]),
        ones('attn1.to_k.lora.up.weight', [4, 1]),
        ones('attn1.to_q.lora.down.weight', [1, 4]),
        numbers('attn1.to_q.lora.up.weight', [4, 1], 1, 2, bad, 3),
      ]);
      await t.rejects(loadAdapter(file, { unet }), {
        code: 'corrupt',
        message: new RegExp(
          `foreign\\.safetensors: tensor ".*attn1\\.to_q\\.lora\\.up\\.weight"\\[2\\]: expected a finite number, got ${bad}$`,
        ),
      });
      t.equal(tf.memory().numTensors, tensors);
    }
    const controller = new AbortController();
    controller.abort();
    await t.rejects(loadAdapter(PATHS.dora, { unet }, { signal: controller.signal }), { code: 'cancelled' });
    t.equal(tf.memory().numTensors, tensors);
  },
);
