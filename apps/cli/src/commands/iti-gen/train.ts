import { defineOptions, option, z } from '@equipoise/core';
import {
  COMPAT,
  inclusivePrompts,
  JOINS,
  loadClip,
  readAttributes,
  savePromptEmbeddings,
  TRAIN_DEFAULTS,
  trainJob,
} from '@equipoise/iti-gen';
import { defineCommand, GOES_ON } from '../../command.js';
import { engineOptions, openEngine } from '../../engine-options.js';

const positive = z.int().min(1);

const options = defineOptions('iti-gen train', {
  clip: option(z.string(), 'Folder of the CLIP model (transformers) whose text tower the pipeline uses.', {
    placeholder: 'folder',
  }),
  tokenizer: option(z.string().optional(), 'Folder of the tokenizer. Default: the CLIP folder.', {
    placeholder: 'folder',
  }),
  data: option(
    z.string(),
    'Reference images: a folder per attribute with a folder per category, or a JSON or YAML manifest.',
    { placeholder: 'folder|file' },
  ),
  attributes: option(
    z.array(z.string()).default([]),
    'Attributes to learn together, in order. Default: all of the data.',
  ),
  prompt: option(z.string(), 'Prompt whose images are to be inclusive.'),
  out: option(z.string(), 'Run folder; a killed run goes on when started again.', { placeholder: 'folder' }),
  references: option(positive.default(25), 'Reference images per category, chosen by seed.', {
    group: 'Learning',
  }),
  tokenLength: option(positive.default(TRAIN_DEFAULTS.tokenLength), 'Tokens per category.', {
    group: 'Learning',
  }),
  join: option(
    z.enum(JOINS).default(TRAIN_DEFAULTS.join),
    'Tokens of several attributes are summed in the same slots, as published, or stand side by side.',
    { group: 'Learning' },
  ),
  consistency: option(
    z.number().min(-1).max(1).default(TRAIN_DEFAULTS.consistency),
    'Similarity to the plain prompt (lambda) that is to be kept.',
    { group: 'Learning' },
  ),
  strength: option(
    z.number().min(0).max(100).default(TRAIN_DEFAULTS.strength),
    'How far texts shift between categories at least, in shifts of the images; 0, as published: left to chance.',
    { group: 'Learning' },
  ),
  learningRate: option(z.number().gt(0).default(TRAIN_DEFAULTS.learningRate), 'Learning rate of Adam.', {
    group: 'Learning',
  }),
  decayAfter: option(
    z.int().min(0).default(TRAIN_DEFAULTS.decayAfter),
    'Epochs before the learning rate drops.',
    { group: 'Learning' },
  ),
  decay: option(z.number().gt(0).max(1).default(TRAIN_DEFAULTS.decay), 'Factor by which it drops.', {
    group: 'Learning',
  }),
  epochs: option(positive.default(TRAIN_DEFAULTS.epochs), 'Epochs.', { group: 'Learning' }),
  updates: option(positive.default(TRAIN_DEFAULTS.updatesPerEpoch), 'Updates of each attribute per epoch.', {
    group: 'Learning',
    formerly: 'steps',
  }),
  saveEvery: option(positive.default(10), 'Tokens are saved after every so many epochs.', {
    group: 'Learning',
  }),
  compat: option(
    z.enum(COMPAT).default(TRAIN_DEFAULTS.compat),
    'Token placement as in the paper, or as in the published code; docs/iti-gen.md lists the differences.',
    { group: 'Learning' },
  ),
  seed: option(z.int().min(0).default(0), 'Seed of the choice and order of references.', {
    group: 'Learning',
  }),
  featureCache: option(
    z.string().optional(),
    'Folder where image features are kept between runs. Default: inside the run folder.',
    { placeholder: 'folder' },
  ),
  ...engineOptions,
});

export const itiGenTrain = defineCommand({
  options,
  description:
    'Learns inclusive tokens (ITI-GEN): from a few reference images per category, prompt tokens with which a prompt gives every category.\n\nWrites tokens.safetensors, prompt-embeds.safetensors (one row per combination of categories, for any pipeline that takes prompt_embeds), checkpoints, a log and TensorBoard events into the run folder.',
  examples: [
    'equipoise iti-gen train --clip clip/ --data faces/ --attributes Age --attributes Skin_tone --prompt "a headshot of a person" --out runs/faces',
  ],
  stopped: GOES_ON,
  async run(
    { clip: folder, tokenizer, data, attributes, out, updates, engine, precision, featureCache, ...rest },
    context,
  ) {
    await openEngine({ engine, precision });
    const clip = await loadClip(folder, { tokenizer });
    const found = await readAttributes(data, attributes);
    const { tokens, log, file } = await trainJob(
      {
        folder: out,
        clip,
        attributes: found,
        options: { ...rest, updatesPerEpoch: updates },
        onWarning: context.note,
        ...(featureCache !== undefined && { featureCache }),
      },
      context,
    );
    const prompts = await inclusivePrompts(tokens, clip.clip, clip.hash, clip.tokenizer);
    const embeddings = `${out}/prompt-embeds.safetensors`;
    await savePromptEmbeddings(embeddings, prompts);
    const last = log.at(-1);
    context.print(
      JSON.stringify(
        {
          tokens: file,
          promptEmbeds: embeddings,
          combinations: prompts.combinations.length,
          updates: log.length,
          loss: last?.loss ?? null,
          pairCosine: last?.pairCosine ?? [],
        },
        null,
        2,
      ),
    );
    return 0;
  },
});
