import { cp, readdir, readFile, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { encodePng, loadPipeline } from '@equipoise/diffusion';
import { fixturesOf } from '@equipoise/testing';
import {
  float32Source,
  openAdapter,
  openFolder,
  openSafetensors,
  readFloat32,
  writeSafetensors,
} from '@equipoise/weights';
import t from 'tap';
import { runCli } from '../cli.js';
import type { Inspection } from './inspect-report.js';

const diffusion = fixturesOf(import.meta.url, '../../../../packages/diffusion/fixtures');
const weights = fixturesOf(import.meta.url, '../../../../packages/weights/fixtures');
const adapterPath = (name: string): string => weights.path(`adapters/${name}`);

async function run(...words: string[]): Promise<{ status: number; out: string; err: string }> {
  const out: string[] = [];
  const err: string[] = [];
  const io = { print: (line: string) => void out.push(line), note: (line: string) => void err.push(line) };
  const status = await runCli(words, { ...io, signal: new AbortController().signal });
  return { status, out: out.join('\n'), err: err.join('\n') };
}

async function inspect(...words: string[]): Promise<Inspection & { status: number }> {
  const { status, out, err } = await run('inspect', ...words, '--json');
  if (out === '') throw new Error(err);
  return { ...(JSON.parse(out) as Inspection), status };
}

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

t.test(
  'convert: a pipeline in another type, variant and in shards loads and computes the same',
  async (t) => {
    const out = t.testdir();
    const sd = diffusion.path('sd');
    const half = join(out, 'half');
    const result = await run(
      'convert',
      sd,
      half,
      '--dtype',
      'bf16',
      '--out-variant',
      'bf16',
      '--shard-size',
      '100KB',
    );
    t.equal(result.status, 0, result.err);
    const listed = result.out.split('\n');
    t.ok(listed.includes(join(half, 'unet/diffusion_pytorch_model.safetensors.index.bf16.json')));
    t.equal(listed.at(-1), join(half, 'model_index.json'));
    const files = (await readdir(half, { recursive: true, withFileTypes: true }))
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name));
    t.same(files.sort(), listed.sort(), 'every file written is listed, and nothing else is there');
    const report = await inspect(half, '--variant', 'bf16');
    t.match(report, { status: 0, problems: [], notices: [], summary: { dtypes: { BF16: 440 } } });
    t.match(JSON.parse(await readFile(join(half, 'text_encoder/config.json'), 'utf8')), {
      dtype: 'bfloat16',
    });
    const pipeline = await loadPipeline(half, { variant: 'bf16' });
    pipeline.dispose();

    const back = join(out, 'back');
    t.equal((await run('convert', half, back, '--variant', 'bf16', '--dtype', 'f32')).status, 0);
    const source = await openFolder(sd);
    const copy = await openFolder(back);
    for (const name of ['unet', 'vae', 'text_encoder']) {
      await using a = await (await source.component(name)).openWeights();
      await using b = await (await copy.component(name)).openWeights();
      t.same(b.names().sort(), a.names().sort());
      for (const tensor of a.names()) {
        const [before, after] = [await readFloat32(a.take(tensor)), await readFloat32(b.take(tensor))];
        const worst = before.reduce(
          (max, value, i) =>
            Math.max(max, Math.abs(value - (after[i] as number)) / Math.max(Math.abs(value), 2 ** -126)),
          0,
        );
        if (worst > 2 ** -8) t.fail(`${name}: ${tensor}: relative error ${worst}`);
      }
    }
    t.match(await inspect(back), { status: 0, problems: [] });
    const plain = join(out, 'plain');
    t.equal((await run('convert', join(sd, 'unet'), plain)).status, 0);
    t.same(
      await readFile(join(plain, 'diffusion_pytorch_model.safetensors')),
      await readFile(join(sd, 'unet/diffusion_pytorch_model.safetensors')),
      'without settings it is a copy',
    );
  },
);

t.test('convert: adapters between spellings and types', async (t) => {
  const out = t.testdir();
  const values = async (path: string, component = 'unet'): Promise<Record<string, unknown>> => {
    await using file = await openAdapter(path, { component });
    const rows = await Promise.all(
      [...file.modules(component)].map(
        async ([module, { down, up, magnitude, scaling }]) =>
          [
            module,
            [
              ...(await readFloat32(down)),
              ...(await readFloat32(up)),
              ...(magnitude ? await readFloat32(magnitude) : []),
              scaling,
            ],
          ] as const,
      ),
    );
    return Object.fromEntries(rows);
  };
  for (const name of [
    'dora-kohya.safetensors',
    'dora-peft',
    'lora-peft-patterns',
    'lora-processors.safetensors',
  ]) {
    for (const spelling of ['diffusers', 'peft']) {
      const folder = join(out, name, spelling);
      const result = await run(
        'convert',
        adapterPath(name),
        folder,
        '--spelling',
        spelling,
        ...(spelling === 'peft' ? ['--base-model', 'owner/name'] : []),
      );
      t.equal(result.status, 0, result.err);
      t.equal((await inspect(folder)).adapter?.spelling, spelling);
      t.same(await values(folder), await values(adapterPath(name)), `${name} as ${spelling}`);
    }
  }
  t.match(JSON.parse(await readFile(join(out, 'dora-peft/peft/adapter_config.json'), 'utf8')), {
    base_model_name_or_path: 'owner/name',
    use_dora: true,
  });
  const both = join(out, 'both');
  t.match(
    await run('convert', adapterPath('lora-unet-text'), both, '--spelling', 'peft', '--dtype', 'bf16'),
    { status: 0 },
  );
  t.same((await readdir(both)).sort(), ['text_encoder', 'unet']);
  t.match((await inspect(join(both, 'unet'))).summary?.dtypes, { BF16: 64 });
});

t.test('convert: files of tensors, and refusals', async (t) => {
  const out = t.testdir({ full: { 'other.txt': 'x' }, 'file.txt': 'x' });
  const file = join(out, 'tensors.safetensors');
  await writeSafetensors(
    file,
    [float32Source('a', [3], Float32Array.of(1, 2.5, -65504)), float32Source('b', [1], Float32Array.of(0.1))],
    { metadata: { note: 'kept' } },
  );
  t.match(await run('convert', file, join(out, 'half.safetensors'), '--dtype', 'f16'), {
    status: 0,
    out: join(out, 'half.safetensors'),
  });
  const half = await openSafetensors(join(out, 'half.safetensors'));
  t.same([...(await readFloat32(half.get('a')))], [1, 2.5, -65504]);
  t.same(Object.fromEntries(half.metadata), { note: 'kept' });
  await half.close();
  const large = join(out, 'large.safetensors');
  await writeSafetensors(large, [float32Source('big', [2], Float32Array.of(1, 70000))]);
  await writeSafetensors(join(out, 'huge.safetensors'), [float32Source('big', [1], Float32Array.of(3.4e38))]);
  const sd = diffusion.path('sd');
  const refused: [string[], number, RegExp][] = [
    [
      [large, join(out, 'x.safetensors'), '--dtype', 'f16'],
      1,
      /large\.safetensors: tensor "big": expected numbers that F16 can hold[\s\S]*bf16 has the range of f32/,
    ],
    [
      [join(out, 'huge.safetensors'), join(out, 'x.safetensors'), '--dtype', 'bf16'],
      1,
      /expected numbers that BF16 can hold/,
    ],
    [
      [file, join(out, 'half.safetensors')],
      5,
      /half\.safetensors: expected a new file, got one that exists[\s\S]*--force/,
    ],
    [[file, out], 2, /out: expected a file name, for the source is a file, got .*, which is a folder/],
    [[file, file, '--force'], 5, /out: expected a place outside the source/],
    [[sd, join(out, 'full')], 5, /full: expected a new or empty folder, got 1 entries/],
    [[sd, join(out, 'file.txt')], 2, /out: expected a folder, got .*file\.txt, which is a file/],
    [[sd, join(sd, 'copy')], 5, /out: expected a place outside the source/],
    [
      [sd, join(out, 'new'), '--shard-size', 'lots'],
      2,
      /--shard-size: expected a size such as 500MB or 5GB, got "lots"/,
    ],
    [
      [sd, join(out, 'new'), '--spelling', 'peft'],
      2,
      /--spelling: expected nothing when converting a model, got "peft"/,
    ],
    [
      [adapterPath('dora-peft'), join(out, 'new'), '--shard-size', '1GB'],
      2,
      /--shard-size: expected nothing when converting an adapter/,
    ],
    [
      [adapterPath('dora-peft'), join(out, 'new'), '--base-model', 'x'],
      2,
      /--base-model: expected nothing without --spelling peft/,
    ],
    [
      [sd, join(out, 'new'), '--variant', 'fp16', '--dtype', 'f8'],
      2,
      /--dtype: expected one of "f32", "f16", "bf16", got "f8"/,
    ],
    [[join(out, 'none'), join(out, 'new')], 3, /none: expected a folder, or a hub id/],
  ];
  const before = (await readdir(out)).sort();
  for (const [words, status, message] of refused) {
    const result = await run('convert', ...words);
    t.match(result.err, message, words.join(' '));
    t.equal(result.status, status, words.join(' '));
  }
  t.same((await readdir(out)).sort(), before, 'nothing was left behind');
  t.notOk((await readdir(sd)).includes('copy'));
  t.match(await run('convert', file, join(out, 'half.safetensors'), '--force', '--dtype', 'bf16'), {
    status: 0,
  });
});
