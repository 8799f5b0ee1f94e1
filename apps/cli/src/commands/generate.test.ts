import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createAdapter, saveAdapter } from '@equipoise/adapters';
import { useEngine } from '@equipoise/backend';
import { loadPipeline, readPngSettings } from '@equipoise/diffusion';
import { decodeImage } from '@equipoise/models';
import { fixturesOf } from '@equipoise/testing';
import { float32Source, openSafetensors, readFloat32, writeSafetensors } from '@equipoise/weights';
import * as tf from '@tensorflow/tfjs-core';
import t from 'tap';
import { runCli } from '../cli.js';

const fixtures = fixturesOf(import.meta.url, '../../../../packages/diffusion/fixtures');
const model = fixtures.path('sd');
const prompts = ['a red cat on top of a wooden table', "Two blue houses, it's raining!"];
const small = ['--steps', '3', '--height', '32', '--width', '32', '--guidance', '2'];

async function run(
  words: string[],
  signal = new AbortController().signal,
): Promise<{ status: number; out: string[]; err: string }> {
  const out: string[] = [];
  const err: string[] = [];
  const io = { print: (line: string) => void out.push(line), note: (line: string) => void err.push(line) };
  const status = await runCli(['generate', ...words], { ...io, signal });
  return { status, out, err: err.join('\n') };
}

const pixels = async (file: string): Promise<Uint8Array> => (await decodeImage(file)).data;
const settings = async (file: string): Promise<Record<string, unknown>> =>
  readPngSettings(await readFile(file)) as Record<string, unknown>;

t.test("with --rng torch the images are diffusers', and carry their settings", async (t) => {
  const out = t.testdir();
  const words = [
    ...prompts,
    '--model',
    model,
    '--out',
    out,
    '--rng',
    'torch',
    '--seed',
    '42',
    '--steps',
    '6',
    '--height',
    '64',
    '--width',
    '64',
    '--batch',
    '1',
  ];
  const { status, out: files, err } = await run(words);
  t.equal(status, 0, err);
  t.same(
    files,
    [
      '00000-a-red-cat-on-top-of-a-wooden-table-00000.png',
      '00001-two-blue-houses-it-s-raining-00000.png',
    ].map((name) => join(out, name)),
  );
  const reference = await openSafetensors(join(model, 'expected.safetensors'));
  const expected = await readFloat32(reference.get('pndm.images'));
  await reference.close();
  const found = Float32Array.from(
    (await Promise.all(files.map(pixels))).flatMap((data) => [...data]),
    (byte) => byte / 255,
  );
  t.equal(found.length, expected.length);
  const mean =
    found.reduce((sum, value, i) => sum + Math.abs(value - (expected[i] as number)), 0) / found.length;
  t.ok(mean <= 1.2 / 1020, `mean difference ${mean * 255} of 255`);
  t.match(await settings(files[1] as string), {
    pipeline: 'StableDiffusionPipeline',
    prompt: prompts[1],
    sampler: 'pndm',
    steps: 6,
    guidance: 7.5,
    rng: 'torch',
    seed: 42,
    index: 1,
    width: 64,
    height: 64,
    model,
    engine: 'equipoise-cpu',
    precision: 'f32',
    program: /^equipoise \d/,
  });
});

t.test('an image depends on its own seed, not on its batch; existing files stay unless forced', async (t) => {
  const out = t.testdir({ 'prompts.txt': `${prompts[0]}\r\n\r\n${prompts[1]}\tsource\n${prompts[0]}\n` });
  const words = [
    '--prompts-file',
    join(out, 'prompts.txt'),
    '--model',
    model,
    '--images-per-prompt',
    '2',
    '--seed',
    '5',
    ...small,
  ];
  const together = await run([...words, '--out', join(out, 'a'), '--batch', '3']);
  t.equal(together.status, 0, together.err);
  t.match(together.err, /prompts\.txt: 1 repeated prompt is drawn once/);
  t.equal(together.out.length, 4);
  const alone = await run([
    prompts[1] as string,
    '--model',
    model,
    '--seed',
    '8',
    ...small,
    '--out',
    join(out, 'b'),
  ]);
  t.same(
    await pixels(alone.out[0] as string),
    await pixels(together.out[3] as string),
    'prompt 1, image 1: seed 5 + 3',
  );
  t.match(await settings(together.out[3] as string), { seed: 8, index: 3, prompt: prompts[1] });

  const again = await run([...words, '--out', join(out, 'a')]);
  t.match(again, {
    status: 5,
    err: /00000-a-red-cat-on-top-of-a-wooden-table-00000\.png: expected a new file, got one that exists \(4 of 4 images do\)[\s\S]*--force/,
  });
  const before = await readFile(together.out[0] as string);
  const forced = await run([
    ...words,
    '--out',
    join(out, 'a'),
    '--force',
    '--batch',
    '1',
    '--negative-prompt',
    'a small dog, blurry',
  ]);
  t.equal(forced.status, 0, forced.err);
  t.notOk(before.equals(await readFile(forced.out[0] as string)));
  t.match(await settings(forced.out[0] as string), { negativePrompt: 'a small dog, blurry' });
});

t.test('embeddings of prompts from a file, with their labels', async (t) => {
  const out = t.testdir();
  await useEngine('equipoise-cpu');
  const pipeline = await loadPipeline(model);
  const { embeds } = pipeline.encodePrompts(prompts);
  const values = Float32Array.from(await embeds.data());
  const { shape } = embeds;
  embeds.dispose();
  pipeline.dispose();
  const file = join(out, 'prompts.safetensors');
  const combinations = [{ Age: 'young' }, { Age: 'old' }];
  await writeSafetensors(file, [float32Source('prompt_embeds', shape, values)], {
    metadata: { equipoise_prompts: JSON.stringify({ prompt: 'a person', combinations }) },
  });
  const words = ['--model', model, '--seed', '1', ...small];
  const embedded = await run(['--prompt-embeds', file, ...words, '--out', join(out, 'a')]);
  t.equal(embedded.status, 0, embedded.err);
  t.same(
    embedded.out.map((name) => name.slice(out.length + 3)),
    ['00000-age-young-00000.png', '00001-age-old-00000.png'],
  );
  const texts = await run([...prompts, ...words, '--out', join(out, 'b')]);
  for (const i of [0, 1])
    t.same(await pixels(embedded.out[i] as string), await pixels(texts.out[i] as string));
  t.match(await settings(embedded.out[1] as string), {
    prompt: 'a person',
    labels: { Age: 'old' },
    promptEmbeds: { file: 'prompts.safetensors', sha256: /^[0-9a-f]{64}$/, row: 1 },
  });

  const refused = async (
    name: string,
    tensors: Parameters<typeof writeSafetensors>[1],
    metadata: Record<string, string>,
    message: RegExp,
    extra: string[] = [],
  ): Promise<void> => {
    const path = join(out, `${name}.safetensors`);
    await writeSafetensors(path, tensors, { metadata });
    const { status, err } = await run([
      '--prompt-embeds',
      path,
      ...words,
      ...extra,
      '--out',
      join(out, name),
    ]);
    t.match(err, message, name);
    t.not(status, 0);
  };
  const rows = (name: string, shape: number[], fill = 0) =>
    float32Source(name, shape, new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(fill));
  await refused(
    'none',
    [rows('negative_prompt_embeds', [1, 77, 32])],
    {},
    /expected a tensor prompt_embeds, got none/,
  );
  await refused(
    'unknown',
    [rows('prompt_embed', [1, 77, 32])],
    {},
    /expected one of prompt_embeds, .* got another tensor; nearest: prompt_embeds/,
  );
  await refused(
    'rank',
    [rows('prompt_embeds', [77, 32])],
    {},
    /expected shape \[prompts, positions, width\], got \[77, 32\]/,
  );
  await refused(
    'width',
    [rows('prompt_embeds', [1, 77, 5])],
    {},
    /promptEmbeds: expected \[prompts, positions, \d+\], got \[1, 77, 5\]/,
  );
  await refused(
    'nan',
    [rows('prompt_embeds', [1, 77, 32], Number.NaN)],
    {},
    /prompt_embeds\[0\]: expected a finite number, got NaN/,
  );
  await refused(
    'rows',
    [rows('prompt_embeds', [3, 77, 32]), rows('negative_prompt_embeds', [2, 77, 32])],
    {},
    /negative_prompt_embeds: expected 3 rows, one for each of prompt_embeds, got 2/,
  );
  await refused(
    'labels',
    [rows('prompt_embeds', [1, 77, 32])],
    { equipoise_prompts: '{"combinations": []}' },
    /expected 1 combinations, one for each row/,
  );
  await refused(
    'skip',
    [rows('prompt_embeds', [1, 77, 32])],
    {},
    /--clip-skip: expected nothing with --prompt-embeds/,
    ['--clip-skip', '1'],
  );
  t.equal(tf.memory().numTensors, 0, 'nothing is left on the engine');
});

t.test('adapters with weights', async (t) => {
  const out = t.testdir();
  await useEngine('equipoise-cpu');
  const pipeline = await loadPipeline(model);
  const { unet } = pipeline.parts;
  const adapter = createAdapter(
    unet,
    'test',
    { kind: 'lora', rank: 2, alpha: 2, init: 'gaussian', targets: ['to_v'] },
    3,
  );
  for (const { up } of adapter.updates.values()) tf.tidy(() => up.assign(tf.fill(up.shape, 0.5)));
  const folder = await saveAdapter(join(out, 'adapter'), { unet: adapter });
  adapter.remove();
  pipeline.dispose();
  const words = ['a house', '--model', model, ...small];
  const image = async (name: string, ...extra: string[]): Promise<Uint8Array> => {
    const { status, err, out: files } = await run([...words, ...extra, '--out', join(out, name)]);
    t.equal(status, 0, err);
    return pixels(files[0] as string);
  };
  const plain = await image('plain');
  const full = await image('full', '--adapter', folder);
  t.notSame(full, plain);
  t.same(await image('off', '--adapter', `${folder}=0`), plain);
  const file = join(folder, 'pytorch_lora_weights.safetensors');
  // Two adapters of half the weight each are one of the full weight, up to rounding.
  const halves = await image('halves', '--adapter', `${folder}=0.5`, '--adapter', `${file}=0.5`);
  const worst = halves.reduce((max, byte, i) => Math.max(max, Math.abs(byte - (full[i] as number))), 0);
  t.ok(worst <= 2, `largest difference ${worst} of 255`);
  const [name = ''] = await readdir(join(out, 'halves'));
  t.match(await settings(join(out, 'halves', name)), {
    adapters: [
      { path: folder, weight: 0.5 },
      { path: file, weight: 0.5 },
    ],
  });
  t.match(await run([...words, '--adapter', `${folder}=much`, '--out', join(out, 'x')]), {
    status: 2,
    err: /--adapter: expected FILE or FILE=WEIGHT with a finite weight, got ".*=much"/,
  });
  t.match(await run([...words, '--adapter', join(out, 'none'), '--out', join(out, 'x')]), {
    status: 3,
    err: /none: expected a folder, or a hub id/,
  });
});

t.test('bad input is refused before the model is loaded, and Ctrl-C leaves whole files only', async (t) => {
  const out = t.testdir({ file: 'x', 'prompts.txt': '\n' });
  const refused: [string[], number, RegExp][] = [
    [['--model', model], 2, /prompt: expected prompts, --prompts-file or --prompt-embeds, got none of them/],
    [['a', '--model', model, '--prompts-file', 'x'], 2, /got prompts and --prompts-file/],
    [['a'], 2, /--model: expected text, got nothing/],
    [['a', '--model', join(out, 'none')], 3, /expected a folder, or a hub id/],
    [['a', '--model', out], 3, /expected model_index\.json or config\.json, got neither/],
    [
      ['a', '--model', model, '--out', join(out, 'file')],
      2,
      /--out: expected a folder, got .*file, which is a file/,
    ],
    [['a', '--model', model, '--seeds', '1,2'], 2, /seeds: expected 1 seeds/],
    [['a', '--model', model, '--stpes', '2'], 2, /Did you mean --steps\?/],
    [['a', '--model', model, '--width', '33'], 2, /width: expected a multiple of 8, got 33/],
    [
      ['a', '--model', model, '--guidance', '1', '--guidance-rescale', '0.5'],
      2,
      /--guidance-rescale: expected 0/,
    ],
    [
      ['--prompts-file', join(out, 'prompts.txt'), '--model', model],
      2,
      /expected at least one prompt, got none/,
    ],
  ];
  for (const [words, status, message] of refused) {
    const result = await run(words.includes('--out') ? words : [...words, '--out', join(out, 'images')]);
    t.match(result.err, message, words.join(' '));
    t.equal(result.status, status, words.join(' '));
  }
  const controller = new AbortController();
  const folder = join(out, 'stopped');
  await mkdir(folder);
  await writeFile(join(folder, 'other.txt'), 'kept');
  const io = { print: (): void => controller.abort(), note: (): void => undefined };
  const words = ['generate', ...prompts, '--model', model, '--out', folder, '--batch', '1', ...small];
  t.equal(await runCli(words, { ...io, signal: controller.signal }), 130);
  const names = await readdir(folder);
  t.same(names.sort(), ['00000-a-red-cat-on-top-of-a-wooden-table-00000.png', 'other.txt']);
  t.equal((await decodeImage(join(folder, names[0] as string))).width, 32);
  t.equal(tf.memory().numTensors, 0);
});
