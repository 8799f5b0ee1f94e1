import { join } from 'node:path';
import { defineOptions, option, z } from '@equipoise/core';
import { allSavings, PARQUET, sweep, topCandidates } from '@equipoise/mi-tune';
import { defineCommand, GOES_ON } from '../../command.js';
import { engineOptions, openEngine } from '../../engine-options.js';
import { checkScorers } from '../../mi-tune/checks.js';
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
  shardOf,
} from '../../mi-tune/model.js';

const options = defineOptions(
  'mi sweep',
  {
    ...modelOptions,
    prompts: option(z.string(), PROMPT_FILE, { placeholder: 'file' }),
    candidates: option(z.int().min(1).default(50), 'Candidates per prompt.'),
    ...adapterOption,
    shard: option(
      z
        .string()
        .regex(/^\d+\/\d+$/)
        .default('1/1'),
      'Which part of the sweep: i/n with i from 1. Each part needs a folder of its own; `mi merge` joins them.',
      { placeholder: 'i/n' },
    ),
    out: option(z.string(), 'Run folder; a killed sweep goes on when started again.', {
      placeholder: 'folder',
    }),
    savings: option(
      z.boolean().default(true),
      'Leave out what changes no score: last steps of candidates, work that branches of guidance, prompts and steps share.',
    ),
    ...samplingOptions,
    ...scorerOptions,
    pictures: option(z.boolean().default(false), 'Keep every picture, under pictures/.', { group: 'Scores' }),
    ...engineOptions,
  },
  checkScorers,
);

export const miSweep = defineCommand({
  options,
  description:
    'Scores candidates of every prompt by point-wise mutual information, summed in the sampling loop.\n\nWrites scores.jsonl as it goes and scores.parquet at the end; `mi query` asks it in SQL, `mi export` makes CSV.',
  examples: [
    'equipoise mi sweep --model sd/ --prompts color_train.txt --candidates 50 --out runs/sweep',
    'equipoise mi sweep --model sd/ --prompts color_train.txt --shard 3/8 --out runs/sweep-3',
  ],
  stopped: GOES_ON,
  async run(
    { prompts: file, shard, out, candidates, batch, savings, pictures, engine, precision, ...rest },
    context,
  ) {
    const part = shardOf(shard);
    await openEngine({ engine, precision });
    const prompts = await promptsOf(file, context.note);
    const { parts, pipeline, adapterHash } = await openModel(rest, context);
    noteTruncated(prompts, { parts }, context.note);
    const rows = await sweep(
      {
        folder: out,
        parts,
        options: { ...samplingOf(rest), prompts, candidates, batch },
        adapter: adapterHash,
        shard: part,
        savings: allSavings(savings),
        pictures: picturesOf(pipeline, await openScorers(rest, { parts, pipeline }), pictures),
        onDamage: context.note,
      },
      context,
    );
    const best = part.count === 1 ? topCandidates(rows, 1).slice(0, 3) : [];
    context.print(
      JSON.stringify(
        {
          scores: join(out, PARQUET),
          prompts: prompts.length,
          candidates: rows.length,
          best: best.map(({ prompt, candidate, mi }) => ({ prompt, candidate, mi })),
        },
        null,
        2,
      ),
    );
    return 0;
  },
});
