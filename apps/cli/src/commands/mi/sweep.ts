import { defineOptions, invalid, option, writeFileAtomic, z } from '@equipoise/core';
import { openParts, readPrompts, sweep, topCandidates, WEIGHTINGS } from '@equipoise/mi-tune';
import { tableOf, toCsv } from '@equipoise/report';
import { defineCommand } from '../../command.js';
import { engineOptions, openEngine } from '../../engine-options.js';

const options = defineOptions('mi sweep', {
  model: option(z.string(), 'Pipeline folder (diffusers).', { placeholder: 'folder' }),
  prompts: option(z.string(), 'Prompt file: one prompt per line.', { placeholder: 'file' }),
  candidates: option(z.int().min(1).default(50), 'Candidates per prompt.'),
  sampler: option(z.enum(['ddpm', 'ddim', 'euler', 'pndm']).default('ddpm'), 'Sampler of the candidates.'),
  steps: option(z.int().min(1).max(1000).default(50), 'Denoising steps.'),
  guidance: option(z.number().min(1).max(100).default(7.5), 'Guidance scale.'),
  weighting: option(
    z.enum(WEIGHTINGS).default('paper'),
    "Weight of a timestep: with the paper's alpha_t, or without it as in the published code.",
  ),
  truncation: option(z.int().min(0).max(998).default(50), 'Timesteps at or below it do not count.'),
  seed: option(z.int().min(0).default(42), 'Candidate m uses seed + m.'),
  batch: option(z.int().min(1).default(16), 'Candidates sampled together, across prompts.'),
  shard: option(
    z
      .string()
      .regex(/^\d+\/\d+$/)
      .default('1/1'),
    'Which part of the sweep: i/n with i from 1. Each part needs a folder of its own.',
    { placeholder: 'i/n' },
  ),
  out: option(z.string(), 'Run folder; a killed sweep goes on when started again.', {
    placeholder: 'folder',
  }),
  ...engineOptions,
});

export const miSweep = defineCommand({
  options,
  description:
    'Scores candidates of every prompt by point-wise mutual information, summed in the sampling loop.\n\nWrites scores.jsonl as it goes and scores.csv at the end.',
  examples: [
    'equipoise mi sweep --model sd/ --prompts color_train.txt --candidates 50 --out runs/sweep',
    'equipoise mi sweep --model sd/ --prompts color_train.txt --shard 3/8 --out runs/sweep-3',
  ],
  async run({ model, prompts: file, shard, out, sampler, engine, precision, ...settings }, context) {
    await openEngine({ engine, precision });
    const { prompts, duplicates } = await readPrompts(file);
    if (duplicates > 0) context.note(`${file}: ${duplicates} repeated prompts are scored once`);
    const [index, count] = shard.split('/').map(Number) as [number, number];
    if (index < 1 || index > count) throw invalid('--shard', 'i/n with i from 1 to n', shard);
    const { parts } = await openParts(model, { sampler, ...context });
    const rows = await sweep(
      { folder: out, parts, options: { ...settings, prompts }, shard: { index: index - 1, count } },
      context,
    );
    const scores = `${out}/scores.csv`;
    await writeFileAtomic(
      scores,
      toCsv(
        tableOf(
          'scores',
          rows.map(({ prompt, candidate, mi }) => ({
            prompt,
            candidate,
            seed: settings.seed + candidate,
            mi,
          })),
        ),
      ),
    );
    const complete =
      count === 1
        ? topCandidates(rows, 1)
            .slice(0, 3)
            .map(({ prompt, candidate, mi }) => ({ prompt, candidate, mi }))
        : [];
    context.print(
      JSON.stringify({ scores, prompts: prompts.length, candidates: rows.length, best: complete }, null, 2),
    );
    return 0;
  },
});
