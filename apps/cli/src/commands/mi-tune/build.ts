import { join } from 'node:path';
import { defineOptions, invalid, option, z } from '@equipoise/core';
import {
  buildSet,
  decoderOf,
  encoderOf,
  mixRealImages,
  readSweep,
  requireComplete,
  selectCandidates,
  sweep,
  sweepRows,
} from '@equipoise/mi-tune';
import { defineCommand, GOES_ON } from '../../command.js';
import { engineOptions, openEngine } from '../../engine-options.js';
import { checkScorers, checkSelection } from '../../mi-tune/checks.js';
import {
  adapterOption,
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

const options = defineOptions(
  'mi-tune build',
  {
    ...modelOptions,
    prompts: option(z.string().optional(), PROMPT_FILE, { placeholder: 'file' }),
    sweep: option(
      z.string().optional(),
      'A finished sweep to choose from, in place of --prompts; its candidates, sampling settings and scores then count.',
      {
        placeholder: 'folder',
      },
    ),
    ...adapterOption,
    out: option(z.string(), 'Folder: the sweep in sweep/, the set in set/.', { placeholder: 'folder' }),
    ...selectionOptions,
    ...samplingOptions,
    ...scorerOptions,
    ...engineOptions,
  },
  checkScorers,
  checkSelection,
  ({ prompts, sweep: folder }, name) => {
    if ((prompts === undefined) === (folder === undefined))
      throw invalid(name('prompts'), 'either a prompt file or --sweep', prompts);
  },
);

export const miTuneBuild = defineCommand({
  options,
  description:
    'Scores candidates of every prompt by mutual information and makes the best of each a fine-tuning set: latents, text states and pictures. With --select random or clip it makes the baselines.',
  examples: [
    'equipoise mi-tune build --model sd/ --prompts color_train.txt --candidates 50 --out runs/round-1',
    'equipoise mi-tune build --model sd/ --sweep runs/sweep --select random --out runs/random',
  ],
  stopped: GOES_ON,
  async run(
    { prompts: file, sweep: folder, out, candidates, batch, top, select, engine, precision, ...rest },
    context,
  ) {
    const stored = folder === undefined ? undefined : await readSweep(folder);
    if (stored !== undefined) requireComplete(stored);
    const prompts = file === undefined ? [] : await promptsOf(file, context.note);
    await openEngine({ engine, precision });
    const model = await openModel(rest, context);
    const { parts, pipeline, adapterHash } = model;
    const scorers = stored === undefined ? await openScorers({ ...rest, select }, model) : [];
    if (stored !== undefined) {
      const { model: hash, adapter } = stored.record.inputs;
      if (hash !== parts.hash || adapter !== adapterHash)
        throw invalid('--sweep', 'a sweep of the same model and adapter', folder, { code: 'conflict' });
    }
    const sampling = stored?.sampling ?? samplingOf(rest);
    const names = stored?.plan.scorers ?? scorers.map(({ name }) => name);
    const selection = selectionOf(select, sampling.seed, names);
    noteTruncated(prompts, model, context.note);
    const examples = top * (stored?.prompts ?? prompts).length;
    const real = await realImagesOf({ ...rest, seed: sampling.seed }, model, examples, out, context);
    const rows =
      stored !== undefined
        ? sweepRows(stored)
        : await sweep(
            {
              folder: join(out, 'sweep'),
              parts,
              options: {
                ...sampling,
                prompts,
                candidates,
                batch,
              },
              adapter: adapterHash,
              pictures: picturesOf(pipeline, scorers),
              onDamage: context.note,
            },
            context,
          );
    const chosen = selectCandidates(rows, top, selection);
    const contents =
      real === undefined ? { chosen } : mixRealImages(chosen, real.images, real.fraction, sampling.seed);
    const set = await buildSet(
      join(out, 'set'),
      parts,
      contents,
      sampling,
      { batch, decode: decoderOf(pipeline), encode: encoderOf(pipeline, parts), adapter: adapterHash },
      context,
    );
    context.print(
      JSON.stringify({ set: join(out, 'set'), examples: set.examples.length, scored: rows.length }, null, 2),
    );
    return 0;
  },
});
