/**
 * Loads the small models of packages/models/fixtures and saves them as the folders the reference libraries load, in f32
 * and (NAME-bf16) in bf16.
 * Run by check_saved_models.py: node --import tsx --conditions=equipoise-source tools/parity/save-models.ts FOLDER
 */
import { basename, join } from 'node:path';
import { useEngine } from '@equipoise/backend';
import { type JsonValue, parseJson, pyFloat, writeJsonAtomic } from '@equipoise/core';
import {
  AutoencoderKL,
  CLIPModel,
  CLIPTextModel,
  CLIPTextModelWithProjection,
  CLIPVisionModelWithProjection,
  type Model,
  type StateDict,
  UNet2DConditionModel,
} from '@equipoise/models';
import {
  castSource,
  openSafetensors,
  renamed,
  saveWeights,
  StateDict as WeightsDict,
} from '@equipoise/weights';

type ModelClass = { load(config: unknown, state: StateDict): Promise<Model> };

const MODELS: Readonly<Record<string, readonly ['diffusers' | 'transformers', ModelClass]>> = {
  'unet-sd1': ['diffusers', UNet2DConditionModel],
  'unet-sd2': ['diffusers', UNet2DConditionModel],
  'unet-sdxl': ['diffusers', UNet2DConditionModel],
  vae: ['diffusers', AutoencoderKL],
  'clip-text-l': ['transformers', CLIPTextModel],
  'clip-text-projected': ['transformers', CLIPTextModelWithProjection],
  'clip-vision-projected': ['transformers', CLIPVisionModelWithProjection],
  clip: ['transformers', CLIPModel],
};

/** transformers refuses 1 where it wrote 1.0. */
function pythonFloats(config: Record<string, JsonValue>): Record<string, JsonValue> {
  const floats = ['initializer_factor', 'initializer_range', 'attention_dropout'];
  const entries = Object.entries(config).map(([key, value]): [string, JsonValue] => {
    if (typeof value === 'number' && floats.includes(key)) return [key, pyFloat(value)];
    const section = typeof value === 'object' && value !== null && !Array.isArray(value);
    return [key, section ? pythonFloats(value as Record<string, JsonValue>) : value];
  });
  return Object.fromEntries(entries);
}

const output = process.argv[2];
if (output === undefined) throw new Error('usage: save-models.ts FOLDER');
const fixtures = join(import.meta.dirname, '../../packages/models/fixtures');
await useEngine('cpu');
for (const [name, [library, type]] of Object.entries(MODELS)) {
  await using file = await openSafetensors(join(fixtures, `${name}.safetensors`));
  const { config } = parseJson(file.metadata.get('fixture') ?? '', name) as {
    config: Record<string, JsonValue>;
  };
  const sources = [...file.tensors.values()].filter((source) => source.name.startsWith('w:'));
  const state = new WeightsDict(
    sources.map((source) => renamed(source, source.name.slice(2))),
    basename(file.path),
  );
  const model = await type.load(config, state);
  const base = library === 'diffusers' ? 'diffusion_pytorch_model' : 'model';
  for (const [folder, dtype] of [
    [name, 'F32'],
    [`${name}-bf16`, 'BF16'],
  ] as const) {
    const sources = model.tensorSources().map((source) => castSource(source, dtype));
    await saveWeights(join(output, folder), base, sources);
    await writeJsonAtomic(join(output, folder, 'config.json'), pythonFloats(config));
  }
  model.dispose();
}
