/** The shipped weights: whole, small, loadable, and as their card says. */
import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { useEngine } from '@equipoise/backend';
import t from 'tap';
import { JUDGE_TASKS, judgeAccuracy } from '../judges/tasks.js';
import type { Measurements } from '../verify/measure.js';
import { sampleGrids } from '../verify/samples.js';
import { IMAGE_BYTES, renderImages } from '../world/render.js';
import { drawSamples } from '../world/sample.js';
import { generate } from './generate.js';
import { loadJudges, loadTinyClip, loadTinyModel, SHIPPED_WEIGHTS } from './load.js';

const LARGEST_BYTES = 16 * 2 ** 20;

t.before(() => useEngine('equipoise-cpu'));

t.test('the folder is complete and small', async (t) => {
  const names = await readdir(SHIPPED_WEIGHTS, { recursive: true });
  const weights = names.filter((name) => name.endsWith('.safetensors'));
  t.equal(weights.length, 6, weights.join(', '));
  const sizes = await Promise.all(
    weights.map(async (name) => (await stat(join(SHIPPED_WEIGHTS, name))).size),
  );
  const total = sizes.reduce((sum, size) => sum + size, 0);
  t.ok(total <= LARGEST_BYTES, `${total} bytes`);
  for (const { name } of sampleGrids(0)) t.ok(names.includes(join('samples', `${name}.png`)), name);
});

t.test('the card states what was measured', async (t) => {
  const measured = JSON.parse(await readFile(join(SHIPPED_WEIGHTS, 'measured.json'), 'utf8')) as Measurements;
  const card = await readFile(join(SHIPPED_WEIGHTS, 'README.md'), 'utf8');
  for (const [name, value] of Object.entries(measured.scores)) {
    const line = card.split('\n').find((row) => row.startsWith(`| ${name} |`));
    const stated = Number.parseFloat(line?.split('|')[2] ?? '');
    const scale = line?.includes('%') ? 100 : 1;
    t.ok(Math.abs(stated - value * scale) <= 0.06, `${name}: ${stated} for ${value}`);
  }
});

t.test('all parts load, and a seed gives one picture whatever the batch', async (t) => {
  const [model, clip] = [await loadTinyModel(), await loadTinyClip()];
  const prompts = ['a red circle', 'a headshot of a person', 'a blue square'];
  const settings = { seed: 5, steps: 4, guidance: 4 };
  const together = await generate(model, prompts, settings);
  const apart = await generate(model, prompts, { ...settings, batch: 1 });
  const largest = together.reduce((most, value, index) => Math.max(most, Math.abs(value - apart[index]!)), 0);
  t.ok(largest <= 1, `rounding at most: ${largest}`);
  const first = together.subarray(0, IMAGE_BYTES);
  t.ok(new Set(first).size > 8, 'a picture, not a surface');
  clip.dispose();
});

t.test('the judges still know drawings they have never seen', async (t) => {
  const judges = await loadJudges();
  for (const task of JUDGE_TASKS) {
    const samples = drawSamples(77, 'test', 96, 0, { kind: task.name });
    const data = { samples, images: await renderImages(samples) };
    const accuracy = await judgeAccuracy(judges[task.name], task, data);
    for (const [question, value] of Object.entries(accuracy)) {
      t.ok(value >= 0.9, `${task.name} ${question}: ${value}`);
    }
  }
});
