/**
 * First half of the round trip "what we write, diffusers reads": loads the fixture pipelines, saves them with
 * this repository's writer, and generates an image from each with PyTorch's random numbers.
 *
 *   npx tsx --conditions=equipoise-source tools/parity/write-pipelines.ts OUT [ENGINE]
 *   python tools/parity/read_pipelines.py OUT
 */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Engine, useEngine } from '../../packages/backend/src/index.js';
import { encodePng, loadPipeline, savePipeline } from '../../packages/diffusion/src/index.js';

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
}
