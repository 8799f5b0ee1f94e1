import { cp, mkdir, readdir, readFile, rename, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parsePythonJson, pythonJson } from '@equipoise/core';
import { fixturesOf } from '@equipoise/testing';
import t from 'tap';
import {
  float32Source,
  type Manifest,
  openFolder,
  SafeRoot,
  saveModel,
  savePipelineIndex,
  saveSchedulerConfig,
  saveWeights,
  splitShards,
  type TensorSource,
  writeSafetensors,
} from './index.js';

const fixtures = fixturesOf(import.meta.url);
const pipeline = fixtures.path('pipeline');
const shapes = fixtures.json<Record<string, Record<string, number[]>>>('pipeline/shapes.json');

function source(name: string, ...shape: number[]): TensorSource {
  return float32Source(name, shape, new Float32Array(shape.reduce((a, b) => a * b, 1)));
}

t.test('a pipeline folder of diffusers: variants, shards, old names, missing prefix', async (t) => {
  const folder = await openFolder(pipeline, { variant: 'fp16' });
  t.equal(folder.kind, 'pipeline');
  t.equal(folder.className, 'StableDiffusionPipeline');
  t.strictSame([...folder.components.keys()].sort(), ['scheduler', 'text_encoder', 'unet', 'vae']);
  t.strictSame(folder.config, { requires_safety_checker: false });
  t.match((await folder.component('scheduler')).config, { _class_name: 'PNDMScheduler', beta_end: 0.012 });
  for (const [name, manifest] of Object.entries(shapes)) {
    const component = await folder.component(name);
    await using weights = await component.openWeights();
    weights.require(manifest);
    for (const [key, shape] of Object.entries(manifest)) weights.take(key, shape);
    weights.assertAllConsumed();
    t.equal(weights.size, Object.keys(manifest).length, name);
  }
  t.strictSame(
    folder.notices.map((notice) => notice.slice(pipeline.length)),
    [
      '/vae: no weights of variant fp16; loaded the plain ones',
      '/text_encoder: no weights of variant fp16; loaded the plain ones',
    ],
  );
  t.strictSame(await (await folder.component('unet')).variants(), ['fp16']);
});

t.test('variants: a missing one lists what there is', async (t) => {
  const plain = await openFolder(pipeline);
  const unet = await plain.component('unet');
  await t.rejects(unet.openWeights(), {
    code: 'missing',
    message: /unet: expected plain weights, got only: fp16/,
    hints: ['Choose variant fp16.'],
  });
  await t.rejects(openFolder(pipeline, { variant: '../x' }), { message: /^variant: expected letters/ });
  await t.rejects(plain.component('vea'), {
    code: 'missing',
    message: /expected one of /,
    hints: ['Did you mean vae?'],
  });
  const single = await openFolder(join(pipeline, 'vae'));
  t.equal(single.kind, 'component');
  t.equal(single.className, 'AutoencoderKL');
  await using weights = await (await single.component('')).openWeights();
  t.ok(weights.has('decoder.mid_block.attentions.0.to_out.0.bias'));
});

t.test('a combined CLIP file serves each tower', async (t) => {
  const folder = t.testdir({ 'config.json': '{"architectures": ["CLIPModel"]}' });
  const names = [
    'text_model.a',
    'text_model.embeddings.position_ids',
    'vision_model.b',
    'text_projection.weight',
    'visual_projection.weight',
    'logit_scale',
  ];
  await writeSafetensors(
    join(folder, 'model.safetensors'),
    names.map((name) => source(name, 1)),
  );
  const component = await (await openFolder(folder)).component('');
  const load = async (as?: string): Promise<string[]> => {
    await using weights = await component.openWeights(as === undefined ? {} : { as });
    return weights.names().sort();
  };
  t.strictSame(await load(), [
    'logit_scale',
    'text_model.a',
    'text_projection.weight',
    'vision_model.b',
    'visual_projection.weight',
  ]);
  t.strictSame(await load('CLIPTextModel'), ['text_model.a']);
  t.strictSame(await load('CLIPTextModelWithProjection'), ['text_model.a', 'text_projection.weight']);
  t.strictSame(await load('CLIPVisionModel'), ['vision_model.b']);
  t.strictSame(await load('CLIPVisionModelWithProjection'), ['vision_model.b', 'visual_projection.weight']);
});

t.test(
  'names and links that leave the folder are refused; those of the hub cache are followed',
  async (t) => {
    const base = t.testdir({
      outside: { 'secret.json': '{}' },
      model: { 'config.json': '{"_class_name": "X"}' },
    });
    const folder = join(base, 'model');
    const root = await SafeRoot.open(folder);
    for (const name of [
      '..',
      '../outside/secret.json',
      '/etc/passwd',
      'a/../../outside',
      'a//b',
      'a\\b',
      'a\0b',
      '',
    ]) {
      await t.rejects(
        root.text(name),
        { code: 'unsafe', message: /expected a name inside the folder/ },
        name,
      );
    }
    await symlink('../outside/secret.json', join(folder, 'diffusion_pytorch_model.safetensors.index.json'));
    await t.rejects((await (await openFolder(folder)).component('')).openWeights(), {
      code: 'unsafe',
      message: /got a link to/,
    });
    await symlink('../outside', join(folder, 'unet'));
    await t.rejects(root.folder('unet'), { code: 'unsafe' });
    await symlink('nowhere', join(folder, 'broken.json'));
    await t.rejects(root.text('broken.json'), { code: 'missing' });
    await symlink('loop.json', join(folder, 'loop.json'));
    await t.rejects(root.has('loop.json'), { code: 'corrupt', message: /a link that leads back to itself/ });

    const repository = join(base, 'models--a--b');
    const snapshot = join(repository, 'snapshots/0123');
    await mkdir(join(repository, 'blobs'), { recursive: true });
    await mkdir(join(snapshot, 'vae'), { recursive: true });
    await writeFile(join(repository, 'blobs/ff'), '{"_class_name": "AutoencoderKL"}');
    await symlink('../../../blobs/ff', join(snapshot, 'vae/config.json'));
    t.equal((await openFolder(join(snapshot, 'vae'))).className, 'AutoencoderKL');
    t.match(await (await (await SafeRoot.open(snapshot)).folder('vae')).json('config.json'), {
      _class_name: 'AutoencoderKL',
    });
    await symlink('../../../../outside/secret.json', join(snapshot, 'vae/scheduler_config.json'));
    await t.rejects((await SafeRoot.open(snapshot)).json('vae/scheduler_config.json'), { code: 'unsafe' });
  },
);

t.test('broken folders are refused with file and field', async (t) => {
  const open = (files: Record<string, string>): Promise<unknown> => openFolder(t.testdir(files));
  const index = (rows: string): Record<string, string> => ({
    'model_index.json': `{"_class_name": "P", ${rows}}`,
  });
  await t.rejects(open({ 'model_index.json': '{' }), {
    code: 'corrupt',
    message: /model_index\.json: expected valid JSON/,
  });
  await t.rejects(open({ 'model_index.json': '[]' }), {
    message: /model_index\.json: expected a JSON object, got \[\]/,
  });
  await t.rejects(open({ 'model_index.json': '{}' }), {
    message: /model_index\.json: _class_name: expected text, got nothing/,
  });
  await t.rejects(open(index('"unet": ["diffusers"]')), {
    message: /unet: expected \[library, class\], got \["diffusers"\]/,
  });
  await t.rejects(open(index('"unet": ["diffusers", 3]')), { message: /unet: expected \[library, class\]/ });
  await t.rejects(open(index('"../x": ["a", "B"]')), {
    code: 'unsafe',
    message: /component: expected a plain name, got "\.\.\/x"/,
  });
  await t.rejects(open({}), {
    code: 'missing',
    message: /expected model_index\.json or config\.json, got neither/,
  });
  await t.rejects(openFolder('/no/such/folder'), {
    code: 'missing',
    message: '/no/such/folder: no such folder',
  });
  await t.rejects(openFolder(fixtures.path('pipeline/model_index.json')), {
    message: /expected a folder, got a file/,
  });
  const gone = await openFolder(t.testdir(index('"unet": ["diffusers", "U"]')));
  await t.rejects(gone.component('unet'), { code: 'missing', message: /unet: no such file/ });
});

t.test('components without safetensors: pickles are refused with the way out', async (t) => {
  const config = '{"_class_name": "UNet2DConditionModel"}';
  const weightsOf = async (files: Record<string, string>): Promise<unknown> =>
    (await (await openFolder(t.testdir({ 'config.json': config, ...files }))).component('')).openWeights();
  await t.rejects(weightsOf({ 'diffusion_pytorch_model.bin': '' }), {
    code: 'unsafe',
    message: /diffusion_pytorch_model\.bin: .*pickle/,
  });
  await t.rejects(weightsOf({}), {
    code: 'missing',
    message:
      /expected plain weights \(diffusion_pytorch_model\.safetensors or model\.safetensors\), got none/,
  });
  const indexed = (map: string): Record<string, string> => ({
    'model.safetensors.index.json': `{"weight_map": ${map}}`,
  });
  await t.rejects(weightsOf(indexed('[]')), {
    code: 'corrupt',
    message: /weight_map: expected an object, got \[\]/,
  });
  await t.rejects(weightsOf(indexed('{"a": 1}')), {
    message: /weight_map: "a": expected a file name, got 1/,
  });
  await t.rejects(weightsOf(indexed('{"a": "../b.safetensors"}')), {
    code: 'unsafe',
    message: /a file beside the index/,
  });
  await t.rejects(weightsOf(indexed('{"a": ".."}')), { code: 'unsafe' });
  await t.rejects(weightsOf(indexed('{"a": "b.bin"}')), { code: 'unsafe', message: /pickle/ });
  await t.rejects(weightsOf(indexed('{"a": "b.safetensors"}')), {
    code: 'missing',
    message: /b\.safetensors: no such file/,
  });
});

t.test('shards and index must agree', async (t) => {
  const copy = join(t.testdir(), 'unet');
  await cp(join(pipeline, 'unet'), copy, { recursive: true });
  const name = 'diffusion_pytorch_model.safetensors.index.fp16.json';
  const index = JSON.parse(await readFile(join(copy, name), 'utf8')) as {
    weight_map: Record<string, string>;
  };
  const load = async (change: (map: Record<string, string>) => void): Promise<unknown> => {
    const map = { ...index.weight_map };
    change(map);
    await writeFile(join(copy, name), JSON.stringify({ ...index, weight_map: map }));
    return (await (await openFolder(copy, { variant: 'fp16' })).component('')).openWeights();
  };
  const first = 'diffusion_pytorch_model.fp16-00001-of-00002.safetensors';
  const second = first.replace('00001', '00002');
  await t.rejects(
    load((map) => {
      map['conv_in.bias'] = second;
    }),
    { message: /"conv_in\.bias": expected it in .*00002-of.*, got none there/ },
  );
  await t.rejects(
    load((map) => {
      map['nothing'] = first;
    }),
    { message: /"nothing": expected it in .*00001-of/ },
  );
  await t.rejects(
    load((map) => {
      delete map['conv_in.bias'];
    }),
    { message: /tensors listed for .*00001.*, got "conv_in\.bias" in it as well/ },
  );
  await rename(join(copy, second), join(copy, 'gone'));
  await t.rejects(
    load(() => undefined),
    { code: 'missing', message: /00002-of-00002\.safetensors: no such file/ },
  );
});

t.test('what is saved equals what diffusers saves, file by file', async (t) => {
  const out = t.testdir();
  const folder = await openFolder(pipeline, { variant: 'fp16' });
  {
    await using weights = await (await folder.component('unet')).openWeights();
    const ordered = Object.keys(shapes['unet'] ?? {}).map((key) => weights.take(key));
    const config = await (await folder.component('unet')).savedConfig();
    const options = { variant: 'fp16', maxShardBytes: 20_000 };
    const names = await saveModel(join(out, 'unet'), 'diffusers', config, ordered, options);
    t.strictSame(names.sort(), (await readdir(join(pipeline, 'unet'))).sort());
    for (const name of names) {
      t.ok((await readFile(join(out, 'unet', name))).equals(fixtures.bytes(`pipeline/unet/${name}`)), name);
    }
  }
  await saveSchedulerConfig(
    join(out, 'scheduler'),
    await (await folder.component('scheduler')).savedConfig(),
  );
  t.equal(
    await readFile(join(out, 'scheduler/scheduler_config.json'), 'utf8'),
    fixtures.text('pipeline/scheduler/scheduler_config.json'),
  );
  const components = Object.fromEntries(folder.components);
  const absent = { safety_checker: null, feature_extractor: null, image_encoder: null, tokenizer: null };
  await savePipelineIndex(
    out,
    'StableDiffusionPipeline',
    { ...components, ...absent },
    { requires_safety_checker: false },
    '0.42.1',
  );
  t.equal(await readFile(join(out, 'model_index.json'), 'utf8'), fixtures.text('pipeline/model_index.json'));
  const again = await openFolder(out, { variant: 'fp16' });
  await using weights = await (await again.component('unet')).openWeights();
  weights.require(shapes['unet'] as Manifest);
});

t.test('settings from JavaScript are written with the floats Python expects', async (t) => {
  const out = t.testdir();
  const config = {
    architectures: ['CLIPTextModel'],
    initializer_factor: 1,
    hidden_size: 8,
    text_config: { dropout: 0 },
  };
  await saveModel(out, 'transformers', config, [source('a', 1)]);
  t.equal(
    await readFile(join(out, 'config.json'), 'utf8'),
    '{\n  "architectures": [\n    "CLIPTextModel"\n  ],\n  "hidden_size": 8,\n  "initializer_factor": 1.0,\n' +
      '  "text_config": {\n    "dropout": 0.0\n  }\n}\n',
  );
  await saveSchedulerConfig(out, { beta_start: 0.00085, clip_sample_range: 1, num_train_timesteps: 1000 });
  t.equal(
    await readFile(join(out, 'scheduler_config.json'), 'utf8'),
    '{\n  "beta_start": 0.00085,\n  "clip_sample_range": 1.0,\n  "num_train_timesteps": 1000\n}\n',
  );
});

t.test('shards are split as the Python libraries split them', async (t) => {
  const sources = [
    source('a', 2),
    source('b', 3),
    source('c', 100),
    source('d', 1),
    source('e', 4),
    source('f', 1),
  ];
  const names = (limit: number): string[] =>
    splitShards(sources, limit).map((shard) => shard.map((s) => s.name).join(''));
  // A tensor above the limit is emitted at once, before the shard that is being filled.
  t.strictSame(names(20), ['c', 'ab', 'de', 'f']);
  t.strictSame(names(1e9), ['abcdef']);
  t.strictSame(splitShards([], 10), [[]]);
  const out = t.testdir();
  t.strictSame(await saveWeights(out, 'model', [source('a', 2)]), ['model.safetensors']);
  await t.rejects(saveWeights(out, 'model', [], { maxShardBytes: 0 }), {
    message: /maxShardBytes: expected a number above 0/,
  });
  await saveWeights(out, 'model', [source('a', 2)], { variant: 'fp16' });
  // Saving again, split differently, leaves nothing of the earlier save; other weights stay.
  const split = await saveWeights(out, 'model', [source('a', 2), source('b', 2)], { maxShardBytes: 8 });
  t.strictSame((await readdir(out)).sort(), ['model.fp16.safetensors', ...split].sort());
  await saveWeights(out, 'model', [source('a', 2)]);
  t.strictSame((await readdir(out)).sort(), ['model.fp16.safetensors', 'model.safetensors']);
});

t.test('configs are written as Python writes them', async (t) => {
  for (const name of fixtures.names().filter((name) => /config\.json$|model_index\.json$/.test(name))) {
    const text = fixtures.text(name);
    t.equal(pythonJson(parsePythonJson(text, name), { newline: text.endsWith('\n') }), text, name);
  }
});
