import { join } from 'node:path';
import { defineOptions, exists, invalid, option, prose, z } from '@equipoise/core';
import { loadClip } from '@equipoise/iti-gen';
import {
  type AlignmentScorer,
  categoryScores,
  decoderOf,
  type EvaluationPrompt,
  evaluate,
  readPrompts,
} from '@equipoise/mi-tune';
import { tableOf, toMarkdown } from '@equipoise/report';
import { SUITE_CATEGORIES, type SuiteCategory, type SuitePrompt, suitePrompts } from '@equipoise/tiny-world';
import { defineCommand, GOES_ON } from '../../command.js';
import { engineOptions, openEngine } from '../../engine-options.js';
import { checkScorers } from '../../mi-tune/checks.js';
import {
  adapterOption,
  modelOptions,
  noteTruncated,
  openModel,
  openScorers,
  samplingOf,
  samplingOptions,
  scorerOptions,
} from '../../mi-tune/model.js';
import { clipScorer, suiteScorer } from '../../mi-tune/scorers.js';

const options = defineOptions(
  'mi-tune evaluate',
  {
    ...modelOptions,
    ...adapterOption,
    prompts: option(
      z.array(z.string()).default([]),
      'Prompt files by category, CATEGORY=FILE; a bare FILE is category "all".',
      { whole: true },
    ),
    suite: option(
      z.array(z.enum(SUITE_CATEGORIES)).default([]),
      "Categories of the embedded model's own prompts, in place of --prompts; its judges score them, as `aligned`.",
    ),
    suitePrompts: option(z.int().min(1).default(20), 'Prompts per category of the suite.'),
    suiteSeed: option(z.int().min(0).default(1000), "Seed of the suite's prompts."),
    images: option(z.int().min(1).default(10), 'Pictures per prompt.'),
    out: option(z.string(), 'Run folder: pictures/ and their scores; a killed evaluation goes on.', {
      placeholder: 'folder',
    }),
    ...samplingOptions,
    ...scorerOptions,
    ...engineOptions,
  },
  checkScorers,
  ({ prompts, suite }, name) => {
    if ((prompts.length === 0) === (suite.length === 0))
      throw invalid(name('prompts'), 'either prompt files or --suite', prompts);
  },
);

/** `color=color_val.txt`; what exists under the whole text is a file. */
async function promptFiles(texts: readonly string[]): Promise<EvaluationPrompt[]> {
  const found: EvaluationPrompt[] = [];
  const seen = new Map<string, string>();
  for (const text of texts) {
    const match = (await exists(text)) ? null : /^([^=/\\]+)=(.+)$/.exec(text);
    const [category, file] = match === null ? ['all', text] : [match[1] as string, match[2] as string];
    for (const prompt of (await readPrompts(file)).prompts) {
      const earlier = seen.get(prompt);
      if (earlier !== undefined)
        throw invalid(`${file}: "${prompt}"`, 'each prompt in one category', prose(`it in ${earlier}, too`));
      seen.set(prompt, category);
      found.push({ prompt, category });
    }
  }
  return found;
}

function suiteOf(categories: readonly SuiteCategory[], seed: number, count: number): SuitePrompt[] {
  return [...new Set(categories)].flatMap((category) => suitePrompts(category, seed, count));
}

export const miTuneEvaluate = defineCommand({
  options,
  description:
    'Draws held-out prompts, with --adapter under an adapter, and scores the pictures per category, with 95 % intervals by the bootstrap over prompts. MI is always scored; CLIPScore, judges of the embedded model and programs of your own (BLIP-VQA, HPSv2) beside it.',
  examples: [
    'equipoise mi-tune evaluate --model sd/ --prompts color=color_val.txt --clip clip-vit-large-patch14/ --out runs/base',
    'equipoise mi-tune evaluate --model sd/ --adapter runs/color/round-3/tune/adapter --prompts color=color_val.txt --scorer "vqa=python blip_vqa.py" --out runs/tuned',
    'equipoise mi-tune evaluate --model packages/tiny-world/weights --suite color,spatial --out runs/suite',
  ],
  stopped: GOES_ON,
  async run(
    { prompts: files, suite, suiteSeed, suitePrompts: count, images, batch, out, engine, precision, ...rest },
    context,
  ) {
    const own = suiteOf(suite, suiteSeed, count);
    const prompts =
      own.length > 0
        ? own.map(({ text, category }) => ({ prompt: text, category }))
        : await promptFiles(files);
    await openEngine({ engine, precision });
    const { parts, pipeline, adapterHash } = await openModel(rest, context);
    noteTruncated(
      prompts.map(({ prompt }) => prompt),
      { parts },
      context.note,
    );
    const scorers: AlignmentScorer[] = await openScorers(rest, { parts, pipeline });
    if (own.length > 0) {
      scorers.push(await suiteScorer(own, rest.model));
      const clip = join(rest.model, 'clip');
      if (rest.clip === undefined && (await exists(clip)))
        scorers.push(clipScorer(await loadClip(clip, { otherwise: join(rest.model, 'tokenizer') })));
    }
    const rows = await evaluate(
      {
        folder: out,
        parts,
        adapter: adapterHash,
        prompts,
        images,
        sampling: samplingOf(rest),
        batch,
        pictures: { scorers, decode: decoderOf(pipeline), keep: true },
      },
      context,
    );
    const names = ['mi', ...scorers.map(({ name }) => name)];
    const records = categoryScores(rows, prompts, names).map(({ category, score, estimate }) => ({
      score,
      category,
      value: estimate.value,
      '95 % low': estimate.low,
      '95 % high': estimate.high,
      pictures: estimate.count,
    }));
    context.print(toMarkdown(tableOf('scores', records)).trimEnd());
    return 0;
  },
});
