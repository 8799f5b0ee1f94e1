import { cp, readFile, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { encodePng } from '@equipoise/diffusion';
import { fixturesOf } from '@equipoise/testing';
import { float32Source, openSafetensors, readFloat32, writeSafetensors } from '@equipoise/weights';
import t from 'tap';
import { inspect, run } from '../testing/run-words.js';

const diffusion = fixturesOf(import.meta.url, '../../../../packages/diffusion/fixtures');
const weights = fixturesOf(import.meta.url, '../../../../packages/weights/fixtures');
const adapterPath = (name: string): string => weights.path(`adapters/${name}`);

t.test('inspect: pipelines, models, adapters, embeddings, images', async (t) => {
  const sd = await inspect(diffusion.path('sd'));
  t.match(sd, { status: 0, kind: 'pipeline', architecture: 'StableDiffusionPipeline', problems: [] });
  t.same(sd.parts.map(({ name }) => name).sort(), ['scheduler', 'text_encoder', 'tokenizer', 'unet', 'vae']);
  const unet = sd.parts.find(({ name }) => name === 'unet');
  t.match(unet, {
    className: 'UNet2DConditionModel',
    architecture: /^UNet of text of width \d+$/,
    variants: ['plain'],
  });
  t.equal(
    sd.summary?.tensors,
    sd.parts.reduce((sum, { summary }) => sum + (summary?.tensors ?? 0), 0),
  );
  t.match(await inspect(diffusion.path('sdxl')), {
    status: 0,
    architecture: 'StableDiffusionXLPipeline',
    problems: [],
  });

  const model = await inspect(diffusion.path('sd/unet'), '--tensors', '--values');
  t.match(model, { status: 0, kind: 'model', parts: [], summary: { dtypes: unet?.summary?.dtypes } });
  t.equal(model.tensors.length, model.summary?.tensors);
  t.ok(model.tensors.some(({ name, shape }) => name === 'conv_in.bias' && shape.length === 1));

  const dora = await inspect(adapterPath('dora-peft'));
  t.match(dora, {
    status: 0,
    kind: 'adapter',
    architecture: 'DoRA as peft spells it',
    adapter: {
      spelling: 'peft',
      dora: true,
      parts: [{ component: 'unet', layers: 32, ranks: [2], scalings: [2] }],
    },
  });
  t.equal(dora.summary?.elements, dora.adapter?.parts[0]?.parameters);
  t.match(await inspect(adapterPath('dora-kohya.safetensors')), {
    adapter: { spelling: 'kohya', parts: [{ scalings: [2] }] },
  });
  t.match(await inspect(adapterPath('lora-unet-text')), {
    architecture: 'LoRA as diffusers spells it',
    adapter: { parts: [{ component: 'text_encoder' }, { component: 'unet' }] },
  });

  const folder = t.testdir();
  const file = (name: string): string => join(folder, name);
  await writeSafetensors(file('prompts.safetensors'), [
    float32Source('prompt_embeds', [2, 77, 768], new Float32Array(2 * 77 * 768)),
  ]);
  t.match(await inspect(file('prompts.safetensors')), {
    kind: 'prompt embeddings',
    architecture: '2 prompts of 77 positions for Stable Diffusion 1',
    metadata: { format: 'pt' },
  });
  await writeFile(
    file('image.png'),
    await encodePng({ width: 2, height: 1, data: new Uint8Array(6) }, { prompt: 'a cat', seed: 7 }),
  );
  t.match(await inspect(file('image.png')), {
    kind: 'image',
    architecture: '2 x 1 pixels',
    settings: { prompt: 'a cat', seed: 7 },
  });
  for (const [path, architecture] of [
    ['sd/unet/diffusion_pytorch_model.safetensors', /^UNet2DConditionModel of/],
    ['sd/vae/diffusion_pytorch_model.safetensors', /^AutoencoderKL with 4 latent channels/],
    ['sd/text_encoder/model.safetensors', /^CLIPTextModel of width/],
    ['sdxl/text_encoder_2/model.safetensors', /^CLIPTextModelWithProjection of width/],
  ] as const) {
    t.match(await inspect(diffusion.path(path)), { status: 0, kind: 'tensors', architecture }, path);
  }
  const text = await run('inspect', diffusion.path('sd'));
  t.match(
    text.out,
    /sd: pipeline, StableDiffusionPipeline\n {2}\d+ tensors, [\d,]+ numbers, \d+ kB \(F16\)[\s\S]*unet +UNet2DConditionModel; UNet of[\s\S]*No problems\.$/,
  );
});

t.test('inspect: what is wrong is named, with exit status 1', async (t) => {
  const folder = t.testdir();
  const sd = join(folder, 'sd');
  const fresh = async (): Promise<void> => {
    await rm(sd, { recursive: true, force: true });
    await cp(diffusion.path('sd'), sd, { recursive: true });
    await rm(join(sd, 'expected.safetensors'));
  };
  const problems = async (break_: () => Promise<unknown>, ...patterns: RegExp[]): Promise<void> => {
    await fresh();
    await break_();
    const report = await inspect(sd, '--values');
    t.equal(report.status, 1);
    t.equal(report.problems.length, patterns.length, report.problems.join('\n'));
    for (const [i, pattern] of patterns.entries()) t.match(report.problems[i], pattern);
  };
  const unet = join(sd, 'unet', 'diffusion_pytorch_model.safetensors');
  const edit = async (
    file: string,
    change: (values: Map<string, { shape: readonly number[]; data: Float32Array }>) => void,
  ): Promise<void> => {
    const values = new Map<string, { shape: readonly number[]; data: Float32Array }>();
    const opened = await openSafetensors(file);
    for (const [name, source] of opened.tensors)
      values.set(name, { shape: source.shape, data: await readFloat32(source) });
    await opened.close();
    change(values);
    await writeSafetensors(
      file,
      [...values].map(([name, { shape, data }]) => float32Source(name, shape, data)),
    );
  };
  const config = async (part: string, change: Record<string, unknown>): Promise<void> => {
    const path = join(sd, part);
    await writeFile(
      path,
      JSON.stringify({ ...(JSON.parse(await readFile(path, 'utf8')) as object), ...change }),
    );
  };
  await problems(() => truncate(unet, 100_000), /diffusion_pytorch_model\.safetensors/);
  await problems(
    () =>
      edit(unet, (values) => {
        const bias = values.get('conv_in.bias') as { shape: readonly number[]; data: Float32Array };
        values.delete('conv_in.bias');
        values.set('conv_in.bais', bias);
      }),
    /1 missing, 1 unexpected[\s\S]*missing "conv_in\.bias" \[\d+\]; nearest: "conv_in\.bais"/,
  );
  await problems(
    () => edit(unet, (values) => void values.get('conv_in.bias')?.data.fill(Number.NaN, 0, 2)),
    /tensor "conv_in\.bias": 2 of \d+ numbers are NaN or infinite/,
  );
  await problems(
    () => config('unet/config.json', { act_fn: 'mish' }),
    /unet\/config\.json: act_fn: expected .*silu.*, got "mish"/,
  );
  await problems(
    () => config('scheduler/scheduler_config.json', { _class_name: 'UniPCMultistepScheduler' }),
    /UniPCMultistepScheduler/,
  );
  await problems(
    () => rm(join(sd, 'unet', 'config.json')),
    /unet\/config\.json: expected the model's settings, got none/,
  );
  await problems(() => rm(join(sd, 'tokenizer', 'tokenizer.json')), /tokenizer/);
  await problems(() => rm(join(sd, 'vae'), { recursive: true }), /vae: no such file/);
  await problems(
    () => config('model_index.json', { _class_name: 'KandinskyPipeline', scheduler: [null, null] }),
    /expected StableDiffusionPipeline or StableDiffusionXLPipeline, got KandinskyPipeline/,
    /expected a component scheduler, got none/,
  );
  await problems(async () => {
    await rm(unet);
    await writeFile(join(folder, 'outside'), 'x');
    await symlink(join(folder, 'outside'), unet);
  }, /expected a file inside the folder, got a link to/);
  await problems(async () => {
    await rm(unet);
    await writeFile(join(sd, 'unet', 'diffusion_pytorch_model.bin'), 'x');
  }, /got a pickle/);

  const checkpoint = join(folder, 'single.safetensors');
  await writeSafetensors(checkpoint, [
    float32Source('model.diffusion_model.out.2.bias', [4], new Float32Array(4)),
  ]);
  t.match(await inspect(checkpoint), {
    status: 1,
    problems: [/expected a folder in the layout of diffusers, got a single-file checkpoint/],
  });
  await writeFile(join(folder, 'bad.safetensors'), 'x'.repeat(100));
  t.match(await inspect(join(folder, 'bad.safetensors')), {
    status: 1,
    architecture: 'unreadable',
    problems: [/bad\.safetensors/],
  });
  await writeFile(join(folder, 'bad.png'), 'no image');
  t.match(await inspect(join(folder, 'bad.png')), { status: 1, problems: [/bad\.png: expected a PNG/] });
  await writeSafetensors(join(folder, 'half.safetensors'), [
    float32Source('unet.a.to_q.lora.down.weight', [2, 4], new Float32Array(8)),
  ]);
  t.match(await inspect(join(folder, 'half.safetensors')), {
    status: 1,
    kind: 'adapter',
    problems: [/expected both LoRA matrices/],
  });
  await writeFile(join(folder, 'notes.txt'), 'x');
  t.match(await run('inspect', join(folder, 'notes.txt')), {
    status: 2,
    err: /expected a \.safetensors or \.png file, or a folder/,
  });
  t.match(await run('inspect', join(folder, 'none')), { status: 3, err: /expected a folder, or a hub id/ });
  t.match((await run('inspect', checkpoint)).out, /PROBLEM: .*single\.safetensors[\s\S]*One problem\.$/);
});
