import { defineOptions, option, sha256File, sha256Json, z } from '@equipoise/core';
import { loadPipeline } from '@equipoise/diffusion';
import {
  generateImages,
  imagesUnder,
  inclusivePrompts,
  loadClip,
  loadTokens,
  NOISES,
  requireSameTextTower,
} from '@equipoise/iti-gen';
import { defineCommand, GOES_ON } from '../../command.js';
import { engineOptions, openEngine } from '../../engine-options.js';
import { hashPipeline } from '../../iti-gen/folder-bench.js';
import { inRunFolder } from '../../iti-gen/run-folder.js';
import { categoryShares, combinationShares } from '../../iti-gen/shares.js';

const options = defineOptions('iti-gen generate', {
  model: option(z.string(), 'Pipeline folder (diffusers).', { placeholder: 'folder' }),
  clip: option(z.string(), 'Folder of the CLIP model the tokens were learned with.', {
    placeholder: 'folder',
  }),
  tokenizer: option(
    z.string().optional(),
    "Folder of its tokenizer. Default: the CLIP folder if it holds one, else the pipeline's.",
    { placeholder: 'folder' },
  ),
  tokens: option(z.string(), 'File of inclusive tokens.', { placeholder: 'file' }),
  prompt: option(z.string().optional(), 'Another prompt. Default: the one the tokens were learned with.'),
  only: option(z.array(z.string()).default([]), 'Restrict an attribute to one category: Attribute=Category.'),
  shares: option(
    z.array(z.string()).default([]),
    'Target share of a category: Attribute=Category=0.3; categories not named share the rest evenly.',
  ),
  count: option(z.int().min(1).default(100), 'Images in all.'),
  steps: option(z.int().min(1).max(1000).default(50), 'Denoising steps.'),
  guidance: option(z.number().min(0).max(100).default(6), 'Guidance scale.'),
  seed: option(z.int().min(0).default(42), 'Seed of the first image; the next has seed + 1.'),
  noise: option(
    z.enum(NOISES).default('shared'),
    'Image i of every combination has seed + i, as published, or every image has a seed of its own.',
  ),
  batch: option(z.int().min(1).default(16), 'Images sampled together.'),
  out: option(z.string(), 'Folder; one folder per combination is made in it.', { placeholder: 'folder' }),
  ...engineOptions,
});

export const itiGenGenerate = defineCommand({
  options,
  description:
    'Generates images of all combinations of categories, in equal or given shares. Images that exist are kept, so a killed run goes on; a folder of other settings is refused.',
  examples: [
    'equipoise iti-gen generate --model sd/ --clip clip/ --tokens runs/faces/tokens.safetensors --count 200 --out images/',
  ],
  stopped: GOES_ON,
  async run(
    {
      model,
      clip: folder,
      tokenizer,
      tokens: file,
      prompt,
      only,
      shares,
      count,
      steps,
      guidance,
      seed,
      noise,
      batch,
      out,
      engine,
      precision,
    },
    context,
  ) {
    await openEngine({ engine, precision });
    const pipeline = await loadPipeline(model, { ...context, onNotice: context.note });
    const clip = await loadClip(folder, { tokenizer, otherwise: `${model}/tokenizer` });
    await requireSameTextTower(clip.clip, pipeline.parts.textEncoder);
    const learned = await loadTokens(file);
    const parts = categoryShares(learned.attributes, shares, only);
    const prompts = await inclusivePrompts(learned, clip.clip, clip.hash, clip.tokenizer, prompt);
    const labels = prompts.combinations.map((own) => own.labels);
    const job = {
      folder: out,
      pipeline,
      prompts,
      count,
      shares: combinationShares(labels, learned.attributes, parts),
      seed,
      noise,
      sampling: { steps, guidance },
      batch,
    };
    const spec = {
      command: 'iti-gen generate',
      options: { prompt: prompts.prompt, only, shares, count, steps, guidance, noise, engine, precision },
      // Noise of its own is counted through all images: there, another number gives others.
      free: noise === 'shared' ? ['only', 'shares', 'count'] : [],
      seeds: { images: seed },
      inputs: { tokens: await sha256File(file), model: sha256Json(await hashPipeline(model)) },
      argv: context.argv,
    };
    const images = await inRunFolder(out, spec, () => generateImages(job, context));
    const others = (await imagesUnder(out)).length - images.length;
    if (others > 0)
      context.note(
        `${out}: ${others} images of other numbers or shares are there beside these ${images.length}`,
      );
    context.print(JSON.stringify({ out, images: images.length, prompt: prompts.prompt }, null, 2));
    return 0;
  },
});
