import { ATTENTION_TARGETS } from '@equipoise/adapters';
import { defineOptions, option, z } from '@equipoise/core';
import { FINE_TUNE_DEFAULTS, openParts, tuneJob } from '@equipoise/mi-tune';
import { defineCommand } from '../../command.js';
import { engineOptions, openEngine } from '../../engine-options.js';

const positive = z.int().min(1);

const options = defineOptions('mi-tune train', {
  model: option(z.string(), 'Pipeline folder (diffusers).', { placeholder: 'folder' }),
  set: option(z.string(), 'Fine-tuning set, as mi-tune build makes it.', { placeholder: 'folder' }),
  out: option(z.string(), 'Run folder; a killed run goes on when started again.', { placeholder: 'folder' }),
  kind: option(z.enum(['dora', 'lora']).default('dora'), 'Kind of adapter.', { group: 'Adapter' }),
  rank: option(positive.default(32), 'Rank of the update.', { group: 'Adapter' }),
  alpha: option(z.number().gt(0).default(32), 'Scale of the update, times rank.', { group: 'Adapter' }),
  init: option(z.enum(['gaussian', 'kaiming']).default('gaussian'), 'How the down projection starts.', {
    group: 'Adapter',
  }),
  targets: option(
    z
      .array(z.string())
      .min(1)
      .default([...ATTENTION_TARGETS]),
    'Names of the linear layers that are adapted.',
    { group: 'Adapter' },
  ),
  learningRate: option(z.number().gt(0).default(FINE_TUNE_DEFAULTS.learningRate), 'Learning rate of AdamW.', {
    group: 'Training',
  }),
  weightDecay: option(z.number().min(0).default(FINE_TUNE_DEFAULTS.weightDecay), 'Weight decay.', {
    group: 'Training',
  }),
  maxGradientNorm: option(
    z.number().gt(0).default(FINE_TUNE_DEFAULTS.maxGradientNorm),
    'Largest norm of the whole gradient.',
    { group: 'Training' },
  ),
  batch: option(positive.default(FINE_TUNE_DEFAULTS.batch), 'Examples per forward.', { group: 'Training' }),
  accumulation: option(positive.default(FINE_TUNE_DEFAULTS.accumulation), 'Forwards per update.', {
    group: 'Training',
  }),
  steps: option(positive.default(FINE_TUNE_DEFAULTS.steps), 'Updates.', { group: 'Training' }),
  warmup: option(z.int().min(0).default(0), 'Updates over which the learning rate rises.', {
    group: 'Training',
  }),
  gradientCheckpointing: option(
    z.boolean().default(false),
    'Recompute activations: less memory, more time.',
    { group: 'Training' },
  ),
  checkpointEvery: option(positive.default(10), 'Updates between checkpoints.', { group: 'Training' }),
  seed: option(
    z.int().min(0).default(0),
    'Seed of the adapter, the order of examples, timesteps and noise.',
    { group: 'Training' },
  ),
  ...engineOptions,
});

export const miTuneTrain = defineCommand({
  options,
  description: 'Fine-tunes a DoRA or LoRA adapter of the denoiser on a set that the model made itself.',
  examples: ['equipoise mi-tune train --model sd/ --set runs/round-1/set --out runs/round-1/tune'],
  async run(
    { model, set, out, kind, rank, alpha, init, targets, checkpointEvery, engine, precision, ...settings },
    context,
  ) {
    await openEngine({ engine, precision });
    const { parts } = await openParts(model, context);
    const { adapter, log } = await tuneJob(
      {
        folder: out,
        parts,
        set,
        adapter: { kind, rank, alpha, init, targets },
        options: settings,
        checkpointEvery,
      },
      context,
    );
    context.print(
      JSON.stringify(
        {
          adapter: `${out}/adapter`,
          steps: log.length,
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
