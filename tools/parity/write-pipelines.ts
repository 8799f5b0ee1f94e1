/**
 * First half of the round trip "what we write, diffusers reads": loads the fixture pipelines, saves them with
 * this repository's writer, generates an image from each with PyTorch's random numbers, and saves the prompt's
 * embeddings.
 *
 *   npx tsx --conditions=equipoise-source tools/parity/write-pipelines.ts OUT [ENGINE]
 *   python tools/parity/read_pipelines.py OUT
 */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Engine, useEngine } from '../../packages/backend/src/index.js';
import { encodePng, loadPipeline, savePipeline } from '../../packages/diffusion/src/index.js';
import { savePromptEmbeddings } from '../../packages/iti-gen/src/index.js';
import { float32Source, writeSafetensors } from '../../packages/weights/src/index.js';

const [out, engine = 'equipoise-cpu'] = process.argv.slice(2);
if (out === undefined) throw new Error('usage: write-pipelines.ts OUT [ENGINE]');
await useEngine(engine as Engine);
for (const kind of ['sd', 'sdxl']) {
  const fixture = fileURLToPath(new URL(`../../packages/diffusion/fixtures/${kind}`, import.meta.url));
  const pipeline = await loadPipeline(fixture);
  await savePipeline(pipeline, join(out, kind), { overwrite: true });
  const prompt = 'a large golden teapot beside a river';
  const { images, settings } = await pipeline.generate({ prompt }, { steps: 8, seed: 42, rng: 'torch' });
  await writeFile(join(out, `${kind}.png`), await encodePng(images[0]!, settings[0]));
  const { embeds, pooled } = pipeline.encodePrompts([prompt]);
  const values = Float32Array.from(await embeds.data());
  const file = join(out, `${kind}.embeds.safetensors`);
  if (pooled === undefined) {
    const { shape } = embeds;
    await savePromptEmbeddings(file, { prompt, combinations: [], embeddings: values, shape });
  } else {
    await writeSafetensors(file, [
      float32Source('prompt_embeds', embeds.shape, values),
      float32Source('pooled_prompt_embeds', pooled.shape, Float32Array.from(await pooled.data())),
    ]);
  }
}
