import { defineOptions, invalid, option, z } from '@equipoise/core';
import { loadPipeline } from '@equipoise/diffusion';
import {
  generateImages,
  inclusivePrompts,
  loadClip,
  loadTokens,
  requireSameTextTower,
} from '@equipoise/iti-gen';
import { defineCommand } from '../../command.js';
import { engineOptions, openEngine } from '../../engine-options.js';

const options = defineOptions('iti-gen generate', {
  model: option(z.string(), 'Pipeline folder (diffusers).', { placeholder: 'folder' }),
  clip: option(z.string(), 'Folder of the CLIP model the tokens were learned with.', {
    placeholder: 'folder',
  }),
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
  seed: option(z.int().min(0).default(42), 'Seed; image i of every combination uses seed + i.'),
  batch: option(z.int().min(1).default(16), 'Images sampled together.'),
  out: option(z.string(), 'Folder; one folder per combination is made in it.', { placeholder: 'folder' }),
  ...engineOptions,
});

/** Share of each combination from shares of categories, attributes taken as independent. */
function combinationShares(
  labels: readonly Readonly<Record<string, string>>[],
  shares: readonly string[],
  only: readonly string[],
): number[] {
  const wanted = new Map<string, Map<string, number>>();
  const known = (attribute: string, category: string, name: string, text: string): void => {
    if (!labels.some((own) => own[attribute] === category))
      throw invalid(name, 'Attribute=Category of the tokens', text);
  };
  for (const text of only) {
    const [attribute = '', category = ''] = text.split('=');
    known(attribute, category, '--only', text);
    wanted.set(attribute, new Map([[category, 1]]));
  }
  for (const text of shares) {
    const [attribute = '', category = '', share = ''] = text.split('=');
    known(attribute, category, '--shares', text);
    const value = Number(share);
    if (share === '' || !(value >= 0 && value <= 1))
      throw invalid('--shares', 'Attribute=Category=share with a share from 0 to 1', text);
    wanted.set(attribute, (wanted.get(attribute) ?? new Map<string, number>()).set(category, value));
  }
  const shareOf = (attribute: string, category: string): number => {
    const given = wanted.get(attribute);
    const categories = new Set(labels.map((own) => own[attribute]));
    if (given === undefined) return 1 / categories.size;
    const sum = [...given.values()].reduce((a, b) => a + b, 0);
    if (sum > 1 + 1e-9) throw invalid('--shares', `shares of ${attribute} that sum to at most 1`, sum);
    return (
      given.get(category) ?? (given.size < categories.size ? (1 - sum) / (categories.size - given.size) : 0)
    );
  };
  return labels.map((own) =>
    Object.entries(own).reduce((product, [attribute, category]) => product * shareOf(attribute, category), 1),
  );
}

export const itiGenGenerate = defineCommand({
  options,
  description:
    'Generates images of all combinations of categories, in equal or given shares. Images that exist are kept, so a killed run goes on.',
  examples: [
    'equipoise iti-gen generate --model sd/ --clip clip/ --tokens runs/faces/tokens.safetensors --count 200 --out images/',
  ],
  async run(
    {
      model,
      clip: folder,
      tokens: file,
      prompt,
      only,
      shares,
      count,
      steps,
      guidance,
      seed,
      batch,
      out,
      engine,
      precision,
    },
    context,
  ) {
    await openEngine({ engine, precision });
    const pipeline = await loadPipeline(model, { ...context, onNotice: context.note });
    const clip = await loadClip(folder, `${model}/tokenizer`);
    await requireSameTextTower(clip.clip, pipeline.parts.textEncoder);
    const prompts = await inclusivePrompts(
      await loadTokens(file),
      clip.clip,
      clip.hash,
      clip.tokenizer,
      prompt,
    );
    const parts = combinationShares(
      prompts.combinations.map(({ labels }) => labels),
      shares,
      only,
    );
    const images = await generateImages(
      { folder: out, pipeline, prompts, count, shares: parts, seed, sampling: { steps, guidance }, batch },
      context,
    );
    context.print(JSON.stringify({ out, images: images.length, prompt: prompts.prompt }, null, 2));
    return 0;
  },
});
