/**
 * Writes, from the fixtures of packages/weights, everything this project saves, for the reference libraries to
 * load: run by weights_roundtrip.py.
 *
 *     npx tsx --conditions=equipoise-source tools/parity/weights_write.ts FOLDER
 */
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  castSource,
  openAdapter,
  openFolder,
  saveDiffusersAdapter,
  saveModel,
  savePeftAdapter,
  savePipelineIndex,
  saveSchedulerConfig,
} from '../../packages/weights/src/index.js';

const out = process.argv[2];
if (out === undefined) {
  console.error('usage: weights_write.ts FOLDER');
  process.exit(2);
}
const fixtures = fileURLToPath(new URL('../../packages/weights/fixtures/', import.meta.url));

const pipeline = await openFolder(join(fixtures, 'pipeline'), { variant: 'fp16' });
const models = { unet: 'diffusers', vae: 'diffusers', text_encoder: 'transformers' } as const;
for (const [name, library] of Object.entries(models)) {
  const component = await pipeline.component(name);
  await using weights = await component.openWeights();
  const config = await component.savedConfig();
  const sources = weights.sources();
  await saveModel(
    join(out, 'pipeline', name),
    library,
    config,
    sources.map((source) => castSource(source, 'F32')),
  );
  const half = sources.map((source) => castSource(source, 'F16'));
  await saveModel(join(out, 'pipeline', name), library, config, half, {
    variant: 'fp16',
    maxShardBytes: 10_000,
  });
}
const scheduler = await pipeline.component('scheduler');
await saveSchedulerConfig(join(out, 'pipeline', 'scheduler'), await scheduler.savedConfig());
const absent = { safety_checker: null, feature_extractor: null, image_encoder: null, tokenizer: null };
const components = { ...Object.fromEntries(pipeline.components), ...absent };
await savePipelineIndex(join(out, 'pipeline'), 'StableDiffusionPipeline', components, {
  requires_safety_checker: false,
});

for (const name of [
  'dora-diffusers',
  'dora-peft',
  'dora-kohya.safetensors',
  'lora-peft-patterns',
  'lora-unet-text',
]) {
  await using adapter = await openAdapter(join(fixtures, 'adapters', name));
  const folder = join(out, 'adapters', name.replace('.safetensors', ''));
  await saveDiffusersAdapter(join(folder, 'diffusers'), adapter.components);
  await savePeftAdapter(join(folder, 'peft'), adapter.modules('unet'));
}
