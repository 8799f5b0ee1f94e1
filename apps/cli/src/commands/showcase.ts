import { join } from 'node:path';
import { defineOptions, option, sha256Json, z } from '@equipoise/core';
import { writeReport } from '@equipoise/report';
import { SHIPPED_WEIGHTS } from '@equipoise/tiny-world';
import { defineCommand, GOES_ON } from '../command.js';
import { engineOptions, openEngine } from '../engine-options.js';
import { TINY_WORLD_GUIDANCE, TINY_WORLD_LEARNING } from '../iti-gen/tiny-world-bench.js';
import { type ItiGenResult, runItiGen } from '../showcase/iti-gen.js';
import { type MiTuneResult, runMiTune } from '../showcase/mi-tune.js';
import { loadEmbedded } from '../showcase/model.js';
import { showcaseReport } from '../showcase/report.js';

const whole = z.int().min(1);

const options = defineOptions('showcase', {
  out: option(z.string().default('runs/showcase'), 'Run folder; what is in it already is reused.', {
    placeholder: 'folder',
  }),
  weights: option(z.string().default(SHIPPED_WEIGHTS), 'Weights of the embedded model.', {
    placeholder: 'folder',
    hidden: true,
  }),
  images: option(whole.default(240), 'Headshots before and after.', { group: 'Size' }),
  epochs: option(whole.default(TINY_WORLD_LEARNING.epochs), 'Epochs of token learning.', { group: 'Size' }),
  suite: option(
    z.enum(['single', 'binding']).default('binding'),
    'What the tuned prompts ask for: one object with its color, or two with a color each.',
    { group: 'Size' },
  ),
  prompts: option(whole.default(40), 'Prompts whose candidates are scored.', { group: 'Size' }),
  candidates: option(whole.default(8), 'Candidates per prompt.', { group: 'Size' }),
  testPrompts: option(whole.default(24), 'Held-out prompts.', { group: 'Size' }),
  updates: option(whole.default(100), 'Updates of the adapter.', { group: 'Size' }),
  steps: option(whole.max(1000).default(20), 'Denoising steps.', { group: 'Size' }),
  seed: option(z.int().min(0).default(42), 'Seed of everything.'),
  ...engineOptions,
});

export const showcase = defineCommand({
  options,
  description:
    'Runs both pipelines end to end on the embedded model: inclusive tokens for skin tone and eyeglasses, and tuning on what mutual information chooses. Writes report.html with the numbers as JSON and CSV beside it.',
  examples: ['equipoise showcase --out runs/showcase'],
  stopped: GOES_ON,
  async run(
    {
      out,
      weights,
      engine,
      precision,
      seed,
      images,
      epochs,
      suite,
      prompts,
      candidates,
      testPrompts,
      updates,
      steps,
    },
    context,
  ) {
    await openEngine({ engine, precision });
    const embedded = await loadEmbedded(weights, context);
    const itiGen = {
      prompt: 'a headshot of a person',
      attributes: ['skinTone', 'eyeglasses'] as const,
      learning: { ...TINY_WORLD_LEARNING, epochs },
      images,
      steps,
      guidance: TINY_WORLD_GUIDANCE,
      seed,
    };
    const miTune = { suite, prompts, candidates, testPrompts, steps, guidance: 4, updates, seed };
    // Other weights or settings work in folders of their own; what is there for these is reused.
    const folder = (name: string, settings: object): string =>
      join(
        out,
        `${name}-${sha256Json({ format: 3, model: embedded.parts.hash, clip: embedded.clip.hash, settings, engine, precision }).slice(0, 12)}`,
      );
    const first = await runItiGen(embedded, folder('iti-gen', itiGen), itiGen, context);
    const second = await runMiTune(embedded, folder('mi-tune', miTune), miTune, context);
    const report = await writeReport(
      out,
      await showcaseReport({ result: first, settings: itiGen }, { result: second, settings: miTune }),
    );
    context.print(JSON.stringify({ report, ...figures(first, second) }, null, 2));
    return 0;
  },
});

/** What came out, for programs. */
function figures(first: ItiGenResult, second: MiTuneResult): object {
  const { results, rightAmongAll, rightAmongChosen, rightAmongLoop, agreement, loopAgreement } = second;
  const kl = Object.fromEntries(
    first.before.balance.map(({ attribute, kl: { value } }, i) => [
      attribute,
      { before: value, after: first.after.balance[i]?.kl.value ?? null },
    ]),
  );
  const right = Object.fromEntries(
    results.map(({ name, right: { value, low, high } }) => [name, { value, low, high }]),
  );
  return { kl, right, rightAmongAll, rightAmongChosen, rightAmongLoop, agreement, loopAgreement };
}
