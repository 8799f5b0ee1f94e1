/** Pipeline folders: written and read back, and those that are refused; PNG files and their settings. */
import { cp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { useEngine } from '@equipoise/backend';
import { decodeImage } from '@equipoise/models';
import { fixturesOf } from '@equipoise/testing';
import t from 'tap';
import { encodePng, loadPipeline, readPngSettings, savePipeline } from '../index.js';

const fixtures = fixturesOf(import.meta.url, '../../fixtures');
const prompt = 'a red cat on top of a wooden table';

await useEngine('equipoise-cpu');

t.test('a saved pipeline loads and gives the same image; PNG files carry their settings', async (t) => {
  const home = t.testdir();
  for (const kind of ['sd', 'sdxl'] as const) {
    const pipeline = await loadPipeline(fixtures.path(kind));
    const folder = join(home, kind);
    await savePipeline(pipeline, folder, { dtype: 'F16' });
    const again = await loadPipeline(folder);
    const [first, second] = [
      await pipeline.generate({ prompt }, { steps: 2 }),
      await again.generate({ prompt }, { steps: 2 }),
    ];
    // The fixture's weights are exact in half precision.
    t.strictSame(second.images, first.images, `${kind}: the same image`);
    await t.rejects(savePipeline(pipeline, folder), { code: 'conflict' });
    await savePipeline(pipeline, folder, { overwrite: true });
    t.ok((await readdir(folder)).includes('model_index.json'));
    const config = await readFile(join(folder, 'text_encoder/config.json'), 'utf8');
    t.match(config, '"initializer_factor": 1.0', "Python's floats stay floats");
    t.match(config, '"dtype": "float32"', 'the type of the weights as saved');

    const png = await encodePng(first.images[0]!, first.settings[0]);
    t.strictSame(readPngSettings(png), first.settings[0], 'settings come back');
    t.strictSame((await decodeImage(png)).data, first.images[0]!.data, 'pixels are untouched');
    for (const item of [first, second]) item.latents.dispose();
    for (const item of [pipeline, again]) item.dispose();
  }
  const plain = await encodePng({ width: 2, height: 1, data: new Uint8Array(6) });
  t.equal(readPngSettings(plain), undefined);
  t.throws(
    () => readPngSettings(plain.subarray(0, 30), 'x.png'),
    /x\.png: expected a PNG, got a file cut short/,
  );
  t.throws(() => readPngSettings(new Uint8Array(20)), { code: 'corrupt' });
  const text = await encodePng({ width: 1, height: 1, data: new Uint8Array(3) }, { prompt: '猫 🙂' });
  t.strictSame(readPngSettings(text), { prompt: '猫 🙂' });
  text[60] = (text[60] as number) ^ 1;
  t.throws(() => readPngSettings(text), { code: 'corrupt' });
});

t.test('folders that are no Stable Diffusion are refused', async (t) => {
  const home = t.testdir();
  const index = (value: object): Promise<void> =>
    writeFile(join(home, 'model_index.json'), JSON.stringify(value));
  await index({ _class_name: 'FluxPipeline' });
  await t.rejects(
    loadPipeline(home),
    /expected StableDiffusionPipeline or StableDiffusionXLPipeline, got "FluxPipeline"/,
  );
  await index({ _class_name: 'StableDiffusionPipeline', controlnet: ['diffusers', 'ControlNetModel'] });
  await t.rejects(loadPipeline(home), /component controlnet/);
  await index({ _class_name: 'StableDiffusionPipeline' });
  await t.rejects(loadPipeline(home), /"scheduler"/);
  await t.rejects(loadPipeline(fixtures.path('sd/unet')), /pipeline/);

  const copy = join(home, 'copy');
  await cp(fixtures.path('sd'), copy, { recursive: true });
  const parts = JSON.parse(await readFile(join(copy, 'model_index.json'), 'utf8')) as object;
  const path = join(copy, 'model_index.json');
  await writeFile(path, JSON.stringify({ ...parts, unet: ['diffusers', 'UNet3DConditionModel'] }));
  await t.rejects(loadPipeline(copy), {
    code: 'unsupported',
    message: /copy: unet: expected UNet2DConditionModel, got UNet3DConditionModel$/,
  });
  await writeFile(path, JSON.stringify(parts));
  const edit = async (part: string, values: object): Promise<() => Promise<void>> => {
    const file = join(copy, part);
    const text = await readFile(file, 'utf8');
    await writeFile(file, JSON.stringify({ ...(JSON.parse(text) as object), ...values }));
    return () => writeFile(file, text);
  };
  let undo = await edit('scheduler/scheduler_config.json', { prediction_type: 'flow' });
  await t.rejects(loadPipeline(copy), {
    message: /copy\/scheduler\/scheduler_config\.json: prediction_type.* expected "epsilon".*, got "flow"/,
  });
  await undo();
  undo = await edit('unet/config.json', { sample_size: 10 ** 7 });
  const huge = await loadPipeline(copy);
  await t.rejects(
    huge.generate({ prompt: 'a' }, { steps: 1 }),
    /sample_size: expected at most \d+, or height/,
  );
  huge.dispose();
  await undo();
  await rm(join(copy, 'unet', 'config.json'));
  await t.rejects(loadPipeline(copy), {
    code: 'missing',
    message: /unet\/config\.json: expected the model's settings, got none$/,
  });
});
