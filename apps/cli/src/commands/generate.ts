import type { AdapterGroup } from '@equipoise/adapters';
import { invalid, option, z } from '@equipoise/core';
import { loadPipeline, samplingOptions } from '@equipoise/diffusion';
import { resolveModel } from '@equipoise/weights';
import { defineCommand } from '../command.js';
import { engineOptions, openEngine } from '../engine-options.js';
import { programVersion } from '../version.js';
import { applyAdapters, parseAdapter } from './generate-adapters.js';
import { makeImages, planImages, prepareOut } from './generate-images.js';
import { readRows } from './generate-inputs.js';

const options = samplingOptions.extend(
  'generate',
  {
    prompt: option(z.array(z.string()).default([]), 'What to draw; repeat it for several prompts.', {
      group: 'Prompts',
      whole: true,
    }),
    promptsFile: option(z.string().optional(), 'File with one prompt per line.', {
      group: 'Prompts',
      placeholder: 'file',
    }),
    negativePrompt: option(z.string().optional(), 'What to stay away from.', { group: 'Prompts' }),
    promptEmbeds: option(
      z.string().optional(),
      'Embeddings instead of prompts: a safetensors file with prompt_embeds [prompts, positions, width], optionally negative_prompt_embeds and, for Stable Diffusion XL, pooled_prompt_embeds and negative_pooled_prompt_embeds.',
      { group: 'Prompts', placeholder: 'file' },
    ),
    model: option(z.string(), 'Pipeline folder (diffusers), or a hub id such as owner/name.', {
      group: 'Model',
      placeholder: 'folder',
    }),
    revision: option(z.string().optional(), 'Branch, tag or commit of a hub id.', { group: 'Model' }),
    variant: option(z.string().optional(), 'Weights variant, such as fp16.', { group: 'Model' }),
    adapter: option(
      z.array(z.string()).default([]),
      'LoRA or DoRA file, folder or hub id, optionally with a weight: style.safetensors=0.8. Repeat it for several; they apply in order.',
      { group: 'Model', placeholder: 'file[=weight]', whole: true },
    ),
    batch: option(
      z.int().min(1).max(10_000).default(4),
      'Images sampled together; changes memory, not results.',
      { group: 'Memory' },
    ),
    out: option(z.string().default('.'), 'Folder for the images.', {
      group: 'Output',
      placeholder: 'folder',
    }),
    force: option(z.boolean().default(false), 'Replace images that exist.', { group: 'Output' }),
    ...engineOptions,
  },
  ({ promptEmbeds, clipSkip }, name) => {
    if (promptEmbeds !== undefined && clipSkip !== undefined)
      throw invalid(name('clipSkip'), 'nothing with --prompt-embeds, which are encoded already', clipSkip);
  },
);

export const generate = defineCommand({
  options,
  positionals: ['prompt'],
  description:
    'Draws images with a Stable Diffusion 1, 2 or XL pipeline. Files are named after the prompt, and every PNG carries the settings that made it (equipoise inspect shows them). Their paths are printed as they are written.\n\nWith --rng torch the images are those of diffusers with the same seed on the CPU.',
  examples: [
    'equipoise generate "a red cat on a table" --model sd/ --out images/',
    'equipoise generate --prompts-file prompts.txt --images-per-prompt 10 --model owner/name --precision bf16 --out images/',
    'equipoise generate "a house" --model sd/ --adapter style.safetensors=0.7 --adapter run/adapter/ --sampler ddim --steps 30',
  ],
  stopped: 'Images that have been written are whole; with --force the same command draws all of them again.',
  async run(given, context) {
    const {
      prompt,
      promptsFile,
      negativePrompt,
      promptEmbeds,
      model,
      revision,
      variant,
      adapter,
      batch,
      out,
      force,
      engine,
      precision,
      ...sampling
    } = given;
    const rows = await readRows({ prompt, promptsFile, negativePrompt, promptEmbeds }, context.note);
    const images = planImages(out, rows, sampling);
    const adapters = await Promise.all(adapter.map(parseAdapter));
    await prepareOut(out, images, force);
    await openEngine({ engine, precision });
    const { signal, onProgress } = context;
    const source = { ...(revision !== undefined && { revision }), ...(variant !== undefined && { variant }) };
    const folder = await resolveModel(model, { signal, onProgress, ...source });
    const pipeline = await loadPipeline(folder, {
      signal,
      onProgress,
      onNotice: context.note,
      ...(variant !== undefined && { variant }),
    });
    const loaded: AdapterGroup[] = [];
    try {
      await applyAdapters(pipeline.parts, adapters, loaded, { signal, onProgress });
      const settings = {
        model,
        ...source,
        ...(adapters.length > 0 && { adapters }),
        engine,
        precision,
        program: `equipoise ${programVersion()}`,
      };
      await makeImages({ pipeline, rows, images, sampling, batch, settings }, context);
    } finally {
      for (const group of loaded) group.remove();
      pipeline.dispose();
    }
    return 0;
  },
});
