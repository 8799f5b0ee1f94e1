import { cp, readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { loadPipeline } from '@equipoise/diffusion';
import { fixturesOf } from '@equipoise/testing';
import {
  float32Source,
  memorySource,
  openAdapter,
  openFolder,
  openSafetensors,
  readFloat32,
  writeSafetensors,
} from '@equipoise/weights';
import t from 'tap';
import { inspect, run } from '../testing/run-words.js';

const diffusion = fixturesOf(import.meta.url, '../../../../packages/diffusion/fixtures');
const weights = fixturesOf(import.meta.url, '../../../../packages/weights/fixtures');
const adapterPath = (name: string): string => weights.path(`adapters/${name}`);

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
  const double = memorySource('a', 'F64', [1], new Uint8Array(8));
  await writeSafetensors(join(out, 'double.safetensors'), [double]);
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
    [
      [join(out, 'double.safetensors'), join(out, 'x.safetensors'), '--dtype', 'f16'],
      2,
      /tensor "a": expected F32, F16 or BF16 where --dtype is given, got F64/,
    ],
    [['', join(out, 'new')], 3, /"": expected a folder, or a hub id/],
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

  const lost = join(out, 'lost');
  await cp(sd, lost, { recursive: true });
  await rm(join(lost, 'unet', 'config.json'));
  t.match(await run('convert', lost, join(out, 'copy')), {
    status: 3,
    err: /lost\/unet\/config\.json: expected the model's settings, got none/,
  });
  t.notOk((await readdir(out)).includes('copy'), 'a refused copy leaves nothing');
  // A pipeline that is there stays as it was until all of another can take its place.
  const kept = join(out, 'kept');
  t.equal((await run('convert', sd, kept, '--shard-size', '100KB')).status, 0);
  const files = async (): Promise<string[]> => (await readdir(kept, { recursive: true })).sort();
  const [whole, index] = [await files(), await readFile(join(kept, 'model_index.json'))];
  t.match(await run('convert', lost, kept, '--force', '--dtype', 'bf16'), { status: 3 });
  t.same(await files(), whole);
  t.same(await readFile(join(kept, 'model_index.json')), index);
  t.same(await inspect(kept).then(({ summary }) => summary), (await inspect(sd)).summary);
  t.match(await run('convert', sd, kept, '--force', '--dtype', 'bf16'), { status: 0 });
  t.match(await inspect(kept), { status: 0, problems: [], summary: { dtypes: { BF16: 440 } } });
  t.notOk(
    (await files()).some((name) => /of-0000|\.index\.|\.tmp$/.test(name)),
    'the earlier shards are gone',
  );
  t.match(await run('convert', file, join(out, 'half.safetensors'), '--force', '--dtype', 'bf16'), {
    status: 0,
  });
});
