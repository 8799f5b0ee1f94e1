/** Suites of prompts and their judges, on drawn pictures whose truth is known. */
import { useEngine } from '@equipoise/backend';
import t from 'tap';
import { BackgroundJudge } from '../judges/background.js';
import { loadJudges } from '../model/load.js';
import type { SceneLabels } from '../world/attributes.js';
import { IMAGE_BYTES, renderImages } from '../world/render.js';
import { drawSamples } from '../world/sample.js';
import { drawPrompt, judgeSuite, SUITE_CATEGORIES, suitePrompts } from './suites.js';

await useEngine('equipoise-cpu');
const background = await BackgroundJudge.create();

t.test('the background judge knows the backgrounds of drawn scenes', async (t) => {
  const samples = drawSamples(5, 'test', 120, 0, { kind: 'scene' });
  const images = await renderImages(samples);
  const right = samples.filter(
    ({ labels }, i) =>
      background.name(images.subarray(i * IMAGE_BYTES, (i + 1) * IMAGE_BYTES)) ===
      (labels as SceneLabels).background,
  );
  t.ok(right.length >= 114, `${right.length} of 120`);
});

t.test('drawn pictures of prompts are right, pictures of other prompts are not', async (t) => {
  const { scene } = await loadJudges();
  for (const category of SUITE_CATEGORIES) {
    const prompts = suitePrompts(category, 3, 24);
    t.equal(new Set(prompts.map(({ text }) => text)).size, 24);
    t.same(suitePrompts(category, 3, 5), prompts.slice(0, 5), 'a longer list begins with the shorter one');
    const images = await renderImages(prompts.map((prompt, i) => drawPrompt(prompt, 11, i)));
    const share = async (shift: number): Promise<number> => {
      const asked = prompts.map((_, i) => prompts[(i + shift) % prompts.length] as (typeof prompts)[number]);
      const verdicts = await judgeSuite({ scene, background }, asked, images);
      return verdicts.filter(Boolean).length / verdicts.length;
    };
    const [own, others] = [await share(0), await share(1)];
    t.ok(own >= 0.9, `${category}: ${own} of the pictures drawn for a prompt are right`);
    t.ok(others <= 0.2, `${category}: ${others} of the others`);
  }
  t.throws(
    () => suitePrompts('single', 1, 65),
    /prompts of category single: expected at most the 64 there are, got 65/,
  );
});
