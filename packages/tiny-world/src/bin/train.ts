/** `tiny-world:train`: trains the embedded model stage by stage in a run folder; see ../train/recipe.ts. */
import { ENGINES, useEngine } from '@equipoise/backend';
import { defineOptions, option, Run, readCommandLine, z } from '@equipoise/core';
import * as tf from '@tensorflow/tfjs-core';
import { exportModel } from '../train/export.js';
import { RECIPE, type Recipe, STAGES, scaledRecipe } from '../train/recipe.js';
import { StageContext } from '../train/stage-context.js';
import { STAGE_RUNNERS } from '../train/stages/index.js';
import { progressPrinter, runMain } from './terminal.js';

const OPTIONS = defineOptions('tiny-world:train', {
  stage: option(
    z.enum([...STAGES, 'export', 'all']).default('all'),
    'Which stage to train; each builds on those before it. export writes the model folder.',
  ),
  run: option(
    z.string().default('runs/tiny-world'),
    'Run folder; a stage that was interrupted in it goes on.',
  ),
  data: option(
    z.string().default('.cache/tiny-world'),
    'Folder for rendered pictures; may be shared by runs.',
  ),
  out: option(
    z.string().optional(),
    'Model folder that export writes; by default `model` in the run folder.',
  ),
  engine: option(z.enum(ENGINES).default('equipoise-cpu'), 'What computes.'),
  partial: option(z.boolean().default(false), 'Let export write a denoiser that is not fully trained.'),
  minutes: option(
    z.number().positive().optional(),
    'Stop in good order after this time; run again to go on.',
  ),
  effort: option(
    z.number().positive().max(10).default(1),
    "Factor on the recipe's updates and pictures, for quick trials.",
  ),
});

async function main(): Promise<void> {
  const options = readCommandLine(OPTIONS, process.argv.slice(2));
  if (options === undefined) return;
  await useEngine(options.engine);
  const recipe: Recipe = scaledRecipe(RECIPE, options.effort);
  const stop = new AbortController();
  process.once('SIGINT', () => stop.abort());
  process.once('SIGTERM', () => stop.abort());
  const run = await Run.open(options.run, {
    command: 'tiny-world train',
    options: { ...options },
    free: ['stage', 'run', 'data', 'out', 'engine', 'partial', 'minutes'],
    seeds: { recipe: recipe.seed },
    device: { engine: tf.getBackend() },
  });
  const deadline = options.minutes === undefined ? undefined : Date.now() + options.minutes * 60_000;
  const job = { onProgress: progressPrinter(), signal: stop.signal };
  const context = new StageContext(run, recipe, options.data, job, deadline);
  try {
    let finished = true;
    const stages = options.stage === 'all' ? STAGES : STAGES.filter((stage) => stage === options.stage);
    for (const stage of stages) {
      const outcome = await run.time(stage, () => STAGE_RUNNERS[stage](context));
      console.error(
        `${stage}: ${outcome.finished ? 'finished' : 'stopped'} ${JSON.stringify(outcome.measurements)}`,
      );
      finished &&= outcome.finished;
      if (!finished) break;
    }
    if (finished && (options.stage === 'export' || options.stage === 'all')) {
      await exportModel(context, options.out ?? run.path('model'), options.partial);
    }
    await (finished ? run.finish() : run.stop());
  } catch (error) {
    await run.fail(error);
    throw error;
  }
}

await runMain(main);
