import { join } from 'node:path';
import { defineOptions, invalid, option, z } from '@equipoise/core';
import { decoderOf, encoderOf, runReport, runRounds } from '@equipoise/mi-tune';
import { writeReport } from '@equipoise/report';
import { defineCommand, GOES_ON } from '../../command.js';
import { engineOptions, openEngine } from '../../engine-options.js';
import { checkScorers, checkSelection, checkValidation } from '../../mi-tune/checks.js';
import {
  modelOptions,
  noteTruncated,
  openModel,
  openScorers,
  PROMPT_FILE,
  picturesOf,
  promptsOf,
  samplingOf,
  samplingOptions,
  scorerOptions,
} from '../../mi-tune/model.js';
import { realImagesOf, selectionOf, selectionOptions } from '../../mi-tune/selecting.js';
import { adaptersOf, fineTuneOf, tuningOptions, validationOf } from '../../mi-tune/tuning.js';

const options = defineOptions(
  'mi-tune run',
  {
    ...modelOptions,
    prompts: option(z.string(), PROMPT_FILE, { placeholder: 'file' }),
    rounds: option(z.int().min(1).default(1), 'Rounds of scoring, choosing and tuning.'),
    start: option(
      z.enum(['fresh', 'previous']).default('fresh'),
      "What a later round tunes: a fresh adapter on the base model, as published, or the previous round's further.",
    ),
    keep: option(
      z.enum(['last', 'best']).default('last'),
      'Which adapter of a round goes on: the last, or the one that validation chose.',
    ),
    out: option(z.string(), 'Run folder: round-1/, round-2/, ...; a killed run goes on when started again.', {
      placeholder: 'folder',
    }),
    ...selectionOptions,
    ...samplingOptions,
    ...scorerOptions,
    ...tuningOptions,
    ...engineOptions,
  },
  checkScorers,
  checkSelection,
  checkValidation,
  ({ keep, validate }, name) => {
    if (keep === 'best' && validate === undefined)
      throw invalid(name('keep'), '"last" without --validate', keep);
  },
);

export const miTuneRun = defineCommand({
  options,
  description:
    'Rounds of MI-TUNE: scores candidates with the current adapter, makes the best a set, tunes an adapter on it, and again. More rounds may be added later. Writes report.html.',
  examples: ['equipoise mi-tune run --model sd/ --prompts color_train.txt --rounds 3 --out runs/color'],
  stopped: GOES_ON,
  async run(
    { prompts: file, rounds, start, keep, out, candidates, top, select, batch, engine, precision, ...rest },
    context,
  ) {
    const prompts = await promptsOf(file, context.note);
    const held = rest.validate === undefined ? undefined : await promptsOf(rest.validate, context.note);
    await openEngine({ engine, precision });
    const model = await openModel({ model: rest.model, sampler: rest.sampler }, context);
    const { parts, pipeline } = model;
    const scorers = await openScorers({ ...rest, select }, model);
    const sampling = samplingOf(rest);
    noteTruncated([...prompts, ...(held ?? [])], model, context.note);
    const results = await runRounds(
      {
        folder: out,
        parts,
        prompts,
        sampling,
        candidates,
        top,
        selection: selectionOf(
          select,
          sampling.seed,
          scorers.map(({ name }) => name),
        ),
        batch,
        rounds,
        start,
        keep,
        ...adaptersOf(rest),
        tune: fineTuneOf(rest),
        checkpointEvery: rest.checkpointEvery,
        validation: validationOf(rest, held, sampling, batch, pipeline, scorers),
        pictures: picturesOf(pipeline, scorers),
        real: await realImagesOf({ ...rest, seed: sampling.seed }, model, top * prompts.length, out, context),
        decode: decoderOf(pipeline),
        encode: encoderOf(pipeline, parts),
      },
      context,
    );
    const report = await writeReport(join(out, 'report'), await runReport(out, []));
    context.print(
      JSON.stringify(
        {
          report,
          rounds: results.map(({ round, adapter, set, log, best }) => ({
            round,
            adapter,
            set,
            lastLoss: log.at(-1)?.loss ?? null,
            ...(best !== undefined && { best }),
          })),
        },
        null,
        2,
      ),
    );
    return 0;
  },
});
