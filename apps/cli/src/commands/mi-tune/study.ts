import { join } from 'node:path';
import { defineOptions, option, sha256Json, z } from '@equipoise/core';
import { type Report, toMarkdown, writeReport } from '@equipoise/report';
import { SHIPPED_WEIGHTS, SUITE_CATEGORIES } from '@equipoise/tiny-world';
import { defineCommand, GOES_ON } from '../../command.js';
import { engineOptions, openEngine } from '../../engine-options.js';
import { loadEmbedded } from '../../showcase/model.js';
import { STUDY_SIZES, type StudySettings, studyCost } from '../../study/plan.js';
import { studyReport } from '../../study/report.js';
import { runSeed } from '../../study/run.js';

const whole = z.int().min(1).optional();
const size = { group: 'Size' };

const options = defineOptions('mi-tune study', {
  out: option(z.string().default('runs/mi-study'), 'Run folder; finished cells are kept.', {
    placeholder: 'folder',
  }),
  weights: option(z.string().optional(), "Weights in the layout of the embedded model's. Default: its own.", {
    placeholder: 'folder',
  }),
  size: option(
    z.enum(['tiny', 'small', 'color', 'full']).default('small'),
    'Preset of the sizes below.',
    size,
  ),
  seeds: option(whole, 'How many seeds. Default 3, tiny 1.', size),
  categories: option(
    z.array(z.enum(SUITE_CATEGORIES)).min(1).optional(),
    'Categories of prompts that are tested.',
    size,
  ),
  trainCategories: option(
    z.array(z.enum(SUITE_CATEGORIES)).min(1).optional(),
    'Categories that are tuned on. Default: those tested; with --size color, color.',
    size,
  ),
  trainPrompts: option(whole, 'Training prompts per category.', size),
  testPrompts: option(whole, 'Held-out prompts per category.', size),
  images: option(whole, 'Pictures per held-out prompt.', size),
  candidates: option(whole, 'Candidates per training prompt.', size),
  keep: option(whole, 'Candidates kept per training prompt.', size),
  rounds: option(whole, 'Rounds of MI-TUNE.', size),
  steps: option(z.int().min(1).max(1000).optional(), 'Denoising steps.', size),
  guidance: option(z.number().min(1).max(100).optional(), 'Guidance scale.', size),
  updates: option(whole, 'Updates of each adapter.', size),
  learningRate: option(z.number().gt(0).optional(), 'Learning rate.', size),
  lowestTimestep: option(z.int().min(0).max(999).optional(), 'Timesteps below it are not trained.', size),
  layers: option(
    z.enum(['attention', 'linear']).optional(),
    "What is adapted: the denoiser's attention, as published, or all linear layers of its transformer blocks and the text encoder.",
    size,
  ),
  plan: option(z.boolean().default(false), 'Only print sizes and work.', size),
  ...engineOptions,
});

/** The preset with what the command line changes. */
function settingsOf(preset: StudySettings, changes: Partial<StudySettings>): StudySettings {
  const given = Object.entries(changes).filter(([, value]) => value !== undefined);
  return { ...preset, ...Object.fromEntries(given) };
}

/** Every table of a report as Markdown. */
function tablesOf({ summary, sections }: Report): string {
  const tables = sections.flatMap(({ blocks }) =>
    blocks.flatMap((block) => (block.kind === 'table' ? [block.table] : [])),
  );
  return [summary, ...tables.map((table) => `## ${table.title}\n\n${toMarkdown(table)}`)].join('\n\n');
}

export const miTuneStudy = defineCommand({
  options,
  description:
    "Makes the paper's tables in miniature on the embedded model: base, random, CLIP-selected, MI-TUNE by MI of finished pictures (rounds) and in the loop, and judge-selected per category; DoRA, LoRA and text encoder; pools of candidates; shares of real pictures; agreement of measures. Several seeds, with intervals. Writes report.html with all tables as CSV and JSON.\n\nEvery cell is kept: a killed study goes on, and a bigger one with the same sizes adds seeds.",
  examples: [
    'equipoise mi-tune study --size small',
    'equipoise mi-tune study --size color --precision bf16',
    'equipoise mi-tune study --size full --out runs/mi-study-full',
  ],
  stopped: GOES_ON,
  async run(
    { out, weights = SHIPPED_WEIGHTS, size: preset, seeds, plan, engine, precision, ...changes },
    context,
  ) {
    const settings = settingsOf(STUDY_SIZES[preset], changes);
    const count = seeds ?? (preset === 'tiny' ? 1 : 3);
    const cost = studyCost(settings);
    if (plan) {
      context.print(JSON.stringify({ settings, seeds: count, workPerSeed: cost }, null, 2));
      return 0;
    }
    await openEngine({ engine, precision });
    const embedded = await loadEmbedded(weights, context);
    const identity = { model: embedded.parts.hash, clip: embedded.clip.hash, settings, engine, precision };
    const folder = join(out, sha256Json(identity).slice(0, 12));
    const done = [];
    for (let seed = 1; seed <= count; seed++)
      done.push(await runSeed(embedded, folder, settings, seed, context));
    const report = await studyReport(done, settings, cost);
    const file = await writeReport(folder, report);
    context.print(`${tablesOf(report)}\n\nReport: ${file}`);
    return 0;
  },
});
