import { defineOptions, option, z } from '@equipoise/core';
import { encodePng } from '@equipoise/diffusion';
import { buildSet, openParts, readPrompts, sweep, topCandidates, WEIGHTINGS } from '@equipoise/mi-tune';
import { defineCommand } from '../../command.js';
import { engineOptions, openEngine } from '../../engine-options.js';

const options = defineOptions('mi-tune build', {
  model: option(z.string(), 'Pipeline folder (diffusers).', { placeholder: 'folder' }),
  prompts: option(z.string(), 'Prompt file: one prompt per line.', { placeholder: 'file' }),
  candidates: option(z.int().min(1).default(50), 'Candidates per prompt.'),
  top: option(z.int().min(1).default(1), 'Candidates kept per prompt.'),
  sampler: option(z.enum(['ddpm', 'ddim', 'euler', 'pndm']).default('ddpm'), 'Sampler of the candidates.'),
  steps: option(z.int().min(1).max(1000).default(50), 'Denoising steps.'),
  guidance: option(z.number().min(1).max(100).default(7.5), 'Guidance scale.'),
  weighting: option(z.enum(WEIGHTINGS).default('paper'), 'Weight of a timestep.'),
  seed: option(z.int().min(0).default(42), 'Candidate m uses seed + m.'),
  batch: option(z.int().min(1).default(16), 'Candidates sampled together.'),
  out: option(z.string(), 'Folder: the sweep in sweep/, the set in set/.', { placeholder: 'folder' }),
  ...engineOptions,
});

export const miTuneBuild = defineCommand({
  options,
  description:
    'Scores candidates of every prompt by mutual information and makes the best of each a fine-tuning set: latents, text states and pictures.',
  examples: [
    'equipoise mi-tune build --model sd/ --prompts color_train.txt --candidates 50 --out runs/round-1',
  ],
  async run({ model, prompts: file, out, sampler, top, engine, precision, ...settings }, context) {
    await openEngine({ engine, precision });
    const { prompts } = await readPrompts(file);
    const { parts, pipeline } = await openParts(model, { sampler, ...context });
    const rows = await sweep({ folder: `${out}/sweep`, parts, options: { ...settings, prompts } }, context);
    const chosen = topCandidates(rows, top);
    const decode = async (latents: Parameters<typeof pipeline.decode>[0]) =>
      Promise.all((await pipeline.decode(latents)).map((image) => encodePng(image)));
    const { candidates: _, batch, ...sampling } = settings;
    const set = await buildSet(`${out}/set`, parts, chosen, sampling, { batch, decode }, context);
    context.print(
      JSON.stringify({ set: `${out}/set`, examples: set.examples.length, scored: rows.length }, null, 2),
    );
    return 0;
  },
});
