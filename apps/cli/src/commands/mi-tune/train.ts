import { join } from 'node:path';
import { defineOptions, option, z } from '@equipoise/core';
import { TUNE_FILES, tuneJob } from '@equipoise/mi-tune';
import { defineCommand, GOES_ON } from '../../command.js';
import { engineOptions, openEngine } from '../../engine-options.js';
import { checkScorers, checkValidation } from '../../mi-tune/checks.js';
import {
  modelOptions,
  openModel,
  openScorers,
  promptsOf,
  samplingOf,
  samplingOptions,
  scorerOptions,
} from '../../mi-tune/model.js';
import { adaptersOf, fineTuneOf, tuningOptions, validationOf } from '../../mi-tune/tuning.js';

const options = defineOptions(
  'mi-tune train',
  {
    ...modelOptions,
    set: option(z.string(), 'Fine-tuning set, as mi-tune build makes it.', { placeholder: 'folder' }),
    out: option(z.string(), 'Run folder; a killed run goes on when started again.', {
      placeholder: 'folder',
    }),
    from: option(
      z.string().optional(),
      'Adapter to tune further, in place of a fresh one: its own kind, rank and layers stay.',
      {
        placeholder: 'folder',
      },
    ),
    ...tuningOptions,
    ...samplingOptions,
    ...scorerOptions,
    ...engineOptions,
  },
  checkScorers,
  checkValidation,
);

export const miTuneTrain = defineCommand({
  options,
  description:
    'Fine-tunes a DoRA or LoRA adapter of the denoiser, and of the text encoder with --text-encoder, on a set that the model made itself. Sampling and scores concern the validation pictures.',
  examples: [
    'equipoise mi-tune train --model sd/ --set runs/round-1/set --out runs/round-1/tune',
    'equipoise mi-tune train --model sd/ --set runs/round-1/set --validate color_val.txt --out runs/round-1/tune',
  ],
  stopped: GOES_ON,
  async run({ set, out, from, batch, engine, precision, ...rest }, context) {
    const prompts = rest.validate === undefined ? undefined : await promptsOf(rest.validate, context.note);
    await openEngine({ engine, precision });
    const { parts, pipeline } = await openModel({ model: rest.model, sampler: rest.sampler }, context);
    const scorers = await openScorers(rest, { parts, pipeline });
    const { adapter, log, best } = await tuneJob(
      {
        folder: out,
        parts,
        set,
        ...adaptersOf(rest),
        from,
        options: fineTuneOf(rest),
        checkpointEvery: rest.checkpointEvery,
        validation: validationOf(rest, prompts, samplingOf(rest), batch, pipeline, scorers),
      },
      context,
    );
    context.print(
      JSON.stringify(
        {
          adapter: join(out, TUNE_FILES.adapter),
          ...(best !== undefined && { best: { adapter: join(out, TUNE_FILES.best), ...best } }),
          updates: log.length,
          parameters: adapter.parameterCount,
          firstLoss: log[0]?.loss ?? null,
          lastLoss: log.at(-1)?.loss ?? null,
        },
        null,
        2,
      ),
    );
    return 0;
  },
});
