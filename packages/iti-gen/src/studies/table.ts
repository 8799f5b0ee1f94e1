/** The main comparison: divergence, quality and similarity of every method on every set of attributes. */
import type { JobContext } from '@equipoise/core';
import { type Block, barChart, type Section, type Table, tableOf } from '@equipoise/report';
import { type CellResult, type Laboratory, METHODS, type Method } from '../laboratory.js';
import { labelledHistogram } from './histogram.js';
import { pictureGrids } from './pictures.js';
import {
  cellsOf,
  type SeedSummary,
  type StudyOptions,
  setName,
  summarize,
  summaryColumns,
} from './summary.js';

export interface TableOptions extends StudyOptions {
  readonly methods: readonly Method[];
  /** Prompts to which tokens learned under the main prompt are applied; none if empty. */
  readonly otherPrompts: readonly string[];
}

interface TableEntry {
  readonly attributes: readonly string[];
  readonly method: Method;
  readonly summary: SeedSummary;
  readonly results: readonly CellResult[];
}

const NAMES: Readonly<Record<Method, string>> = {
  vanilla: 'plain prompt',
  hard: 'hard prompts',
  negated: '"with / without" prompts',
  'iti-gen': 'ITI-GEN',
};

/** What counts as reaching the published level; distances and similarity are relative to the plain prompt's. */
export const GOALS = {
  single: 0.01,
  combined: 0.03,
  reduction: 20,
  distance: 1.1,
  similarity: 0.95,
  transfer: 0.03,
};

/** Runs the comparison. Cells that are done are read back. */
export async function compareMethods(
  laboratory: Laboratory,
  options: TableOptions,
  context: JobContext = {},
): Promise<Section[]> {
  const entries: TableEntry[] = [];
  for (const attributes of options.sets) {
    for (const method of METHODS.filter((own) => options.methods.includes(own))) {
      const results = await cellsOf(laboratory, options, { method, attributes }, context);
      entries.push({ attributes, method, summary: summarize(results), results });
    }
  }
  const transfer = await transferTo(laboratory, options, context);
  const note = `${options.images} images per cell and seed, ${options.seeds.length} seeds (mean; KL also smallest and largest). KL in nats to the uniform distribution of all combinations, biased upwards in random samples by about (categories - 1) / (2 images).`;
  const sections: Section[] = [
    {
      title: 'Comparison',
      blocks: [
        { kind: 'table', table: comparison(entries, note) },
        { kind: 'table', table: goalTable(entries, transfer) },
        ...klPlots(entries),
      ],
    },
  ];
  if (transfer.length > 0)
    sections.push({ title: 'Train once for all', blocks: transferBlocks(transfer, options) });
  sections.push({ title: 'Pictures', blocks: await pictures(entries, laboratory) });
  return sections;
}

function comparison(entries: readonly TableEntry[], note: string): Table {
  return tableOf(
    'Inclusiveness and quality',
    entries.map(({ attributes, method, summary }) => ({
      attributes: setName(attributes),
      categories: summary.categories,
      method: NAMES[method],
      ...summaryColumns(summary),
    })),
    note,
  );
}

interface Transfer {
  readonly attributes: readonly string[];
  readonly prompt: string;
  readonly tokens: SeedSummary;
  readonly plain: SeedSummary;
}

async function transferTo(
  laboratory: Laboratory,
  options: TableOptions,
  context: JobContext,
): Promise<Transfer[]> {
  const found: Transfer[] = [];
  for (const prompt of options.otherPrompts) {
    for (const attributes of options.sets) {
      const [plain, tokens] = [
        await cellsOf(laboratory, options, { method: 'vanilla', attributes, prompt }, context),
        await cellsOf(laboratory, options, { method: 'iti-gen', attributes, prompt }, context),
      ];
      found.push({ attributes, prompt, tokens: summarize(tokens), plain: summarize(plain) });
    }
  }
  return found;
}

function transferBlocks(transfer: readonly Transfer[], options: TableOptions): Block[] {
  const table = tableOf(
    'Tokens learned under one prompt, applied to others',
    transfer.map(({ prompt, attributes, tokens, plain }) => ({
      prompt,
      attributes: setName(attributes),
      'KL, plain prompt': plain.kl,
      'KL, tokens': tokens.kl,
      'KL max of seeds': tokens.klRange[1],
      accuracy: tokens.accuracy,
      'prompt similarity, plain': plain.similarity,
      'prompt similarity, tokens': tokens.similarity,
    })),
    `Tokens were learned under "${options.prompt}" only.`,
  );
  return [{ kind: 'table', table }];
}

/** Every goal with what was reached: stated whether met or not. */
function goalTable(entries: readonly TableEntry[], transfer: readonly Transfer[]): Table {
  const of = (entry: TableEntry, method: Method): SeedSummary | undefined =>
    entries.find((e) => e.attributes === entry.attributes && e.method === method)?.summary;
  const ours = entries.filter(({ method }) => method === 'iti-gen');
  const records = ours.flatMap((entry) => {
    const name = setName(entry.attributes);
    const { kl, distances, similarity } = entry.summary;
    const limit = entry.attributes.length === 1 ? GOALS.single : GOALS.combined;
    const plain = of(entry, 'vanilla');
    const rows = [{ goal: `${name}: KL at most ${limit}`, reached: kl, met: kl <= limit }];
    if (plain === undefined) return rows;
    const times = plain.kl / kl;
    rows.push({
      goal: `${name}: KL at least ${GOALS.reduction} times below the plain prompt's`,
      reached: times,
      met: times >= GOALS.reduction,
    });
    for (const [reference, value] of Object.entries(distances)) {
      const ratio = value / (plain.distances[reference] ?? Number.NaN);
      rows.push({
        goal: `${name}: FID to ${reference} at most ${GOALS.distance} times the plain prompt's`,
        reached: ratio,
        met: ratio <= GOALS.distance,
      });
    }
    const kept = (similarity ?? Number.NaN) / (plain.similarity ?? Number.NaN);
    rows.push({
      goal: `${name}: prompt similarity at least ${GOALS.similarity} times the plain prompt's`,
      reached: kept,
      met: kept >= GOALS.similarity,
    });
    return rows;
  });
  for (const { prompt, attributes, tokens } of transfer)
    records.push({
      goal: `"${prompt}", ${setName(attributes)}: KL of transferred tokens at most ${GOALS.transfer}`,
      reached: tokens.kl,
      met: tokens.kl <= GOALS.transfer,
    });
  return tableOf('Goals', records, `${records.filter(({ met }) => met).length} of ${records.length} met.`);
}

function klPlots(entries: readonly TableEntry[]): Block[] {
  const bars = entries.map(({ attributes, method, summary }) => ({
    category: setName(attributes),
    series: NAMES[method],
    value: summary.kl,
  }));
  const sets = new Set(bars.map(({ category }) => category)).size;
  const overview: Block = {
    kind: 'plot',
    title: 'KL to uniform, mean over seeds',
    svg: barChart(bars, { x: 'attributes', y: 'KL (nats)' }, { width: Math.max(560, sets * 130) }),
  };
  return [
    overview,
    ...[...new Set(entries.map(({ attributes }) => attributes))].map((own) => histogram(entries, own)),
  ];
}

/** Shares of the categories (or combinations) by method, over all seeds. */
function histogram(entries: readonly TableEntry[], attributes: readonly string[]): Block {
  const own = entries.filter((entry) => entry.attributes === attributes);
  const name = own[0]?.results[0]?.evaluation.balance.at(-1)?.attribute ?? setName(attributes);
  const sets = own.map(({ method, results }) => ({
    name: NAMES[method],
    balances: results.flatMap(({ evaluation }) => evaluation.balance),
  }));
  return labelledHistogram(name, sets);
}

async function pictures(entries: readonly TableEntry[], laboratory: Laboratory): Promise<Block[]> {
  const blocks: Block[] = [];
  for (const { attributes, method, results } of entries) {
    const [first] = results;
    if (first === undefined || (method !== 'vanilla' && method !== 'iti-gen')) continue;
    blocks.push({
      kind: 'images',
      title: `${setName(attributes)}: ${NAMES[method]}`,
      images: await pictureGrids(first, laboratory.settings.folder),
    });
  }
  return blocks;
}
