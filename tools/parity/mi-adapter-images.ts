/**
 * Tunes adapters of the embedded model for a few updates, saves them as diffusers and as PEFT write them, and draws
 * pictures with them, for check_mi_adapter.py to repeat.
 *
 *   node --import=tsx --conditions=equipoise-source tools/parity/mi-adapter-images.ts OUT_FOLDER
 */
import { join } from 'node:path';
import { type AdapterConfig, ATTENTION_TARGETS, saveAdapter } from '../../packages/adapters/src/index.js';
import { randomNormal, useEngine } from '../../packages/backend/src/index.js';
import { writeJsonAtomic } from '../../packages/core/src/index.js';
import {
  buildSet,
  FINE_TUNE_DEFAULTS,
  openParts,
  sweep,
  topCandidates,
  tuneJob,
} from '../../packages/mi-tune/src/index.js';
import { SHIPPED_WEIGHTS, suitePrompts } from '../../packages/tiny-world/src/index.js';
import { float32Source, memorySource, writeSafetensors } from '../../packages/weights/src/index.js';

const COUNT = 8;
const SETTINGS = { seed: 11, steps: 15, guidance: 4 };
const SAMPLING = { seed: 5, steps: 6, guidance: 4 };
/** A high rate: the adapter must change the pictures, or agreement says nothing. */
const TUNE = { ...FINE_TUNE_DEFAULTS, batch: 4, accumulation: 1, updates: 12, learningRate: 5e-3 };
const TEXT_TARGETS = ['q_proj', 'k_proj', 'v_proj', 'out_proj'];

const [out] = process.argv.slice(2);
if (out === undefined) throw new Error('usage: mi-adapter-images.ts OUT_FOLDER');
await useEngine('equipoise-cpu');
const { parts, pipeline } = await openParts(SHIPPED_WEIGHTS, { sampler: 'ddim' });
const training = suitePrompts('color', 1, 6).map(({ text }) => text);
const prompts = suitePrompts('color', 2, COUNT).map(({ text }) => text);
const options = { ...SAMPLING, prompts: training, candidates: 2, batch: 6 };
const rows = await sweep({ folder: join(out, 'sweep'), parts, options });
await buildSet(join(out, 'set'), parts, { chosen: topCandidates(rows, 1) }, SAMPLING, { batch: 6 });

type Latents = NonNullable<Parameters<typeof pipeline.generate>[0]['latents']>;
const latents = randomNormal([COUNT, 16, 16, 4], { seed: SETTINGS.seed, stream: 0 }) as Latents;
const draw = async (): Promise<Buffer> => {
  const { images, latents: last } = await pipeline.generate(
    { prompt: prompts, latents },
    { steps: SETTINGS.steps, guidance: SETTINGS.guidance, sampler: 'ddim' },
  );
  last.dispose();
  return Buffer.concat(images.map((image) => image.data));
};
const pictures = [{ name: 'base', data: await draw() }];
const config = (kind: AdapterConfig['kind'], targets: readonly string[]): AdapterConfig => ({
  kind,
  rank: 8,
  alpha: 4,
  init: 'gaussian',
  targets,
});
for (const [name, kind, text] of [
  ['dora', 'dora', false],
  ['lora', 'lora', false],
  // transformers 5.23 leaves the magnitudes of a text encoder's DoRA out when diffusers loads it; LoRA it takes whole.
  ['dora-text', 'dora', true],
] as const) {
  const { adapter } = await tuneJob({
    folder: join(out, name),
    parts,
    set: join(out, 'set'),
    adapter: config(kind, ATTENTION_TARGETS),
    textAdapter: text ? config('lora', TEXT_TARGETS) : undefined,
    options: TUNE,
    checkpointEvery: 100,
  });
  await saveAdapter(join(out, name, 'peft'), adapter.parts, { spelling: 'peft' });
  pictures.push({ name, data: await draw() });
  adapter.remove();
}
await writeSafetensors(join(out, 'images.safetensors'), [
  float32Source('latents', latents.shape, (await latents.data()) as Float32Array),
  ...pictures.map(({ name, data }) => memorySource(name, 'U8', [COUNT, 64, 64, 3], data)),
]);
await writeJsonAtomic(join(out, 'settings.json'), { ...SETTINGS, prompts, weights: SHIPPED_WEIGHTS });
