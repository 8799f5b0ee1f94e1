/** The study's tables: the paper's, in miniature. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { exists } from '@equipoise/core';
import type { Estimate } from '@equipoise/metrics';
import {
  agreementOf,
  categoryDifferences,
  categoryScores,
  type EvaluationPrompt,
  PICTURE_MI,
  PICTURES,
  pictureName,
  rankedPicks,
  type SweepRow,
  selectCandidates,
} from '@equipoise/mi-tune';
import {
  type Block,
  barChart,
  type Report,
  type ReportImage,
  type Section,
  type Table,
  tableOf,
} from '@equipoise/report';
import { type StudyChoice, type StudyCost, type StudySettings, selectionOf, studyCells } from './plan.js';
import { type StudyModel, type StudySeed, testPromptsOf } from './run.js';

/** A model over all seeds: rows of seed s have candidate numbers from s * images on, so that pairs stay pairs. */
interface Pooled {
  readonly name: string;
  readonly key: string;
  readonly rows: readonly SweepRow[];
  readonly bySeed: readonly (readonly SweepRow[])[];
}

function pool(seeds: readonly StudySeed[], images: number): Map<string, Pooled> {
  const first = seeds[0] as StudySeed;
  return new Map(
    first.models.map(({ name, key }, m) => {
      const bySeed = seeds.map(({ models }) => (models[m] as StudyModel).rows);
      const rows = bySeed.flatMap((own, s) =>
        own.map((row) => ({ ...row, candidate: s * images + row.candidate })),
      );
      return [key, { name, key, rows, bySeed }];
    }),
  );
}

const percent = (value: number): string => (100 * value).toFixed(1);
const withInterval = ({ value, low, high }: Estimate): string =>
  `${percent(value)} [${percent(low)}, ${percent(high)}]`;

/** Categories across, models down: percentages of aligned pictures with intervals. */
function categoryTable(
  title: string,
  models: readonly Pooled[],
  prompts: readonly EvaluationPrompt[],
  note: string,
): Table {
  return tableOf(
    title,
    models.map(({ name, rows, bySeed }) => {
      const cells = categoryScores(rows, prompts, ['aligned']).map(
        ({ category, estimate }) => [category, withInterval(estimate)] as const,
      );
      const seeds = bySeed.map((own) => {
        const all = categoryScores(own, prompts, ['aligned']);
        return percent(all.at(-1)?.estimate.value ?? Number.NaN);
      });
      return { model: name, ...Object.fromEntries(cells), 'mean, by seed': seeds.join(', ') };
    }),
    note,
  );
}

/** Paired differences to the base model, in points. */
function differenceTable(
  title: string,
  models: readonly Pooled[],
  base: Pooled,
  prompts: readonly EvaluationPrompt[],
): Table {
  return tableOf(
    title,
    models.map(({ name, rows }) => ({
      model: name,
      ...Object.fromEntries(
        categoryDifferences(rows, base.rows, prompts, 'aligned').map(({ category, estimate }) => [
          category,
          withInterval(estimate),
        ]),
      ),
    })),
    `Points above ${base.name}, same prompts and noise.`,
  );
}

/** What each choice picks from the base model's candidates: the judge's share right, and the other scores. */
function choiceTable(seeds: readonly StudySeed[], settings: StudySettings): Table {
  const mean = (rows: readonly SweepRow[], value: (row: SweepRow) => number): number =>
    rows.reduce((sum, row) => sum + value(row), 0) / rows.length;
  const pick = (choose: (rows: readonly SweepRow[], seed: number) => SweepRow[]): SweepRow[] =>
    seeds.flatMap(({ pool: rows, seed }) => choose(rows, seed));
  const among = settings.candidates;
  const best = (choice: StudyChoice): SweepRow[] =>
    pick((rows, seed) => selectCandidates(rows, settings.keep, selectionOf(choice, seed), among));
  const choices: [string, SweepRow[]][] = [
    ['all candidates', pick((rows) => rows.filter(({ candidate }) => candidate < among))],
    ['random', best('random')],
    ['highest CLIPScore', best('clip')],
    ['highest MI in the loop', best('mi')],
    ['highest MI of the finished picture', best(PICTURE_MI)],
    ['by the judge', best('aligned')],
  ];
  return tableOf(
    `What is chosen from ${among} candidates of the base model`,
    choices.map(([name, rows]) => ({
      choice: name,
      pictures: rows.length,
      'aligned, %': Number(percent(mean(rows, ({ scores }) => scores.aligned as number))),
      'mean CLIPScore': mean(rows, ({ scores }) => scores.clip as number),
      'mean MI in the loop, nats': mean(rows, ({ mi }) => mi),
      'mean MI of pictures, nats': mean(rows, ({ scores }) => scores[PICTURE_MI] as number),
    })),
    'Training prompts, judged by the embedded judges.',
  );
}

/** Kendall's tau between the measures, at the paper's ranks and over all candidates. */
function agreementTable(seeds: readonly StudySeed[], settings: StudySettings): Table {
  const last = settings.candidates;
  const ranks = [1, Math.max(2, Math.round(last / 2)), last];
  const all = Array.from({ length: last }, (_, i) => i + 1);
  const rowsOf = (which: readonly number[]): SweepRow[][] =>
    seeds.flatMap(({ pool: rows }) =>
      rankedPicks(
        rows.filter(({ candidate }) => candidate < last),
        which,
      ),
    );
  const records = ([`ranks ${ranks.join(', ')}`, 'all candidates'] as const).flatMap((label, i) =>
    agreementOf(rowsOf(i === 0 ? ranks : all), ['mi', PICTURE_MI, 'clip', 'aligned']).map(
      ({ first, second, tau, tied }) => ({
        candidates: label,
        measures: `${first}, ${second}`,
        tau: tau?.value ?? null,
        '95 % low': tau?.low ?? null,
        '95 % high': tau?.high ?? null,
        prompts: tau?.count ?? 0,
        tied,
      }),
    ),
  );
  return tableOf(
    "Kendall's tau-b between measures",
    records,
    'Within prompts, then the mean over prompts. tied: prompts where a measure tells no candidates apart (the judge says yes or no).',
  );
}

/** Models beside the base model. */
function comparison(
  title: string,
  models: readonly Pooled[],
  base: Pooled,
  prompts: readonly EvaluationPrompt[],
  note: string,
): Section {
  const others = models.filter(({ key }) => key !== 'base');
  return {
    title,
    blocks: [
      { kind: 'table', table: categoryTable(`${title}: aligned pictures, %`, models, prompts, note) },
      {
        kind: 'table',
        table: differenceTable(`${title}: against the base model`, others, base, prompts),
      },
    ],
  };
}

/** The paper's tables on the embedded model. */
export async function studyReport(
  seeds: readonly StudySeed[],
  settings: StudySettings,
  cost: StudyCost,
): Promise<Report> {
  const prompts = testPromptsOf(settings).map(({ text, category }) => ({ prompt: text, category }));
  const models = pool(seeds, settings.images);
  const get = (key: string): Pooled => models.get(key) as Pooled;
  const cells = studyCells(settings);
  const rounds = Array.from({ length: settings.rounds }, (_, i) =>
    settings.rounds === 1 ? 'pictures' : `pictures-${i + 1}`,
  );
  const base = get('base');
  const once = { ...get(rounds[0] as string) };
  const named = (name: string): Pooled => ({ ...once, name });
  const main = [base, get('random'), get('clip'), get('loop'), ...rounds.map(get), get('judge')];
  const pools = cells.filter(({ key }) => key.startsWith('of-'));
  const chosen = [
    ...pools.filter(({ candidates }) => candidates < settings.candidates).map(({ key }) => get(key)),
    named(`${settings.keep} of ${settings.candidates}`),
    ...pools.filter(({ candidates }) => candidates > settings.candidates).map(({ key }) => get(key)),
    get(`top-${settings.top}`),
  ];
  const real = settings.realFractions.map((fraction) => get(`real-${fraction}`));
  const note = `${seeds.length} seeds, ${prompts.length} held-out prompts, ${settings.images} pictures each and seed; 95 % intervals by the bootstrap over prompts. "mean" weighs categories alike.`;
  const section = (title: string, list: readonly Pooled[]): Section =>
    comparison(title, list, base, prompts, note);
  return {
    title: 'MI-TUNE on the embedded model',
    summary: summaryOf(main, prompts),
    sections: [
      withBlocks(section('Methods', main), [
        chart(main, prompts),
        await pictures(seeds[0] as StudySeed, main, prompts),
      ]),
      section('Adapters', [
        base,
        named('DoRA'),
        get('lora'),
        get(settings.layers === 'linear' ? 'unet' : 'text'),
      ]),
      section('Candidates', [base, ...chosen]),
      ...(real.length > 0 ? [section('Real pictures', [base, named('real 0'), ...real])] : []),
      {
        title: 'Choice and agreement',
        blocks: [
          { kind: 'table', table: choiceTable(seeds, settings) },
          { kind: 'table', table: agreementTable(seeds, settings) },
        ],
      },
      {
        title: 'Settings',
        blocks: [
          { kind: 'details', title: 'Sizes', text: JSON.stringify(settings, null, 2) },
          { kind: 'details', title: 'Work of one seed', text: JSON.stringify(cost, null, 2) },
        ],
      },
    ],
  };
}

const withBlocks = (section: Section, blocks: readonly Block[]): Section => ({
  ...section,
  blocks: [...section.blocks, ...blocks],
});

function chart(models: readonly Pooled[], prompts: readonly EvaluationPrompt[]): Block {
  const bars = models.flatMap(({ name, rows }) =>
    categoryScores(rows, prompts, ['aligned']).map(({ category, estimate }) => ({
      category,
      series: name,
      value: 100 * estimate.value,
    })),
  );
  return {
    kind: 'plot',
    title: 'Aligned pictures, %',
    svg: barChart(bars, { x: 'category', y: '%' }, { width: 960 }),
  };
}

/** One picture of each of a few prompts, by model. */
async function pictures(
  { folder }: StudySeed,
  models: readonly Pooled[],
  prompts: readonly EvaluationPrompt[],
): Promise<Block> {
  const shown = prompts.map((_, i) => i).filter((i) => i % Math.max(1, Math.floor(prompts.length / 7)) === 0);
  const images: ReportImage[] = [];
  for (const index of shown.slice(0, 7)) {
    const { prompt } = prompts[index] as EvaluationPrompt;
    for (const { key, name } of models) {
      const file = join(folder, 'tests', key, PICTURES, pictureName(index, prompt, 0));
      if (await exists(file)) images.push({ png: await readFile(file), caption: `${name}: ${prompt}` });
    }
  }
  return { kind: 'images', title: 'The same prompts and noise', images };
}

function summaryOf(models: readonly Pooled[], prompts: readonly EvaluationPrompt[]): string {
  const line = ({ name, rows }: Pooled): string => {
    const all = categoryScores(rows, prompts, ['aligned']);
    const color = all.find(({ category }) => category === 'color')?.estimate;
    const mean = all.at(-1)?.estimate as Estimate;
    return `${name} ${percent(mean.value)} %${color === undefined ? '' : ` (color binding ${percent(color.value)} %)`}`;
  };
  return `Aligned pictures of held-out prompts, mean over categories: ${models.map(line).join('; ')}.`;
}
