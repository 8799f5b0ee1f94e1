/**
 * Generates pictures with the embedded model and writes them with their latents and settings, for
 * check_tiny_world.py to repeat with diffusers.
 *
 *   node --import=tsx --conditions=equipoise-source tools/parity/tiny-world-images.ts OUT_FOLDER [WEIGHTS]
 */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { randomNormal, useEngine } from '../../packages/backend/src/index.js';
import { writeJsonAtomic } from '../../packages/core/src/index.js';
import { drawSamples, loadTinyModel, SHIPPED_WEIGHTS } from '../../packages/tiny-world/src/index.js';
import { float32Source, memorySource, writeSafetensors } from '../../packages/weights/src/index.js';

const PROMPTS = 20;
const SETTINGS = { seed: 11, steps: 25, guidance: 4 };

const [out, weights = SHIPPED_WEIGHTS] = process.argv.slice(2);
if (out === undefined) throw new Error('usage: tiny-world-images.ts OUT_FOLDER [WEIGHTS]');
await useEngine('equipoise-cpu');
await mkdir(out, { recursive: true });
const model = await loadTinyModel(weights);
const prompts = drawSamples(99, 'test', PROMPTS).map((sample) => sample.caption);
type Latents = NonNullable<Parameters<typeof model.generate>[0]['latents']>;
const latents = randomNormal([PROMPTS, 16, 16, 4], { seed: SETTINGS.seed, stream: 0 }) as Latents;
const { images } = await model.generate(
  { prompt: prompts, latents },
  { steps: SETTINGS.steps, guidance: SETTINGS.guidance },
);
await writeSafetensors(join(out, 'images.safetensors'), [
  float32Source('latents', latents.shape, (await latents.data()) as Float32Array),
  memorySource('images', 'U8', [PROMPTS, 64, 64, 3], Buffer.concat(images.map((image) => image.data))),
]);
await writeJsonAtomic(join(out, 'settings.json'), { ...SETTINGS, prompts, weights });
