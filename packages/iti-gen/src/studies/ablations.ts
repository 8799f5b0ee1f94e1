/** What results depend on: the number of references, other attributes, the weight of the prompt's meaning. */
import type { JobContext } from '@equipoise/core';
import { type Block, barChart, type Cell, lineChart, type Section, tableOf } from '@equipoise/report';
import type { CellResult, Laboratory, Learning } from '../laboratory.js';
import { inclusiveTextFeatures } from './directions.js';
import { labelledHistogram } from './histogram.js';
import { pictureGrids } from './pictures.js';
import {
  cellsOf,
  learningOf,
  meanOf,
  type SeedSummary,
  type StudyOptions,
  setName,
  summarize,
  summaryColumns,
} from './summary.js';

/**
 * The same training from another number of references: as many updates, and as many images in each, so that only their
 * variety differs.
 */
function withReferences(
  { references, updatesPerEpoch, epochs, decayAfter }: StudyOptions['learning'],
  count: number,
): Partial<Learning> {
  const updates = Math.max(1, Math.round((updatesPerEpoch * count) / references));
  const stretched = (length: number): number => Math.round((length * updatesPerEpoch) / updates);
  return {
    references: count,
    updatesPerEpoch: updates,
    epochs: stretched(epochs),
    decayAfter: stretched(decayAfter),
  };
}

/** How many references are needed: the same with 5, 25, 50 and 100 per category. */
export async function studyReferences(
  laboratory: Laboratory,
  options: StudyOptions,
  counts: readonly number[],
  context: JobContext = {},
): Promise<Section> {
  const records: { count: number; set: string; summary: SeedSummary }[] = [];
  for (const attributes of options.sets) {
    for (const count of counts) {
      const cells = await cellsOf(
        laboratory,
        options,
        { method: 'iti-gen', attributes, learning: withReferences(options.learning, count) },
        context,
      );
      records.push({ count, set: setName(attributes), summary: summarize(cells) });
    }
  }
  return {
    title: 'Number of references',
    blocks: [
      {
        kind: 'table',
        table: tableOf(
          'References per category',
          records.map(({ count, set, summary }) => ({
            attributes: set,
            references: count,
            ...summaryColumns(summary),
          })),
          sizeNote(options),
        ),
      },
      chart(
        'KL to uniform',
        'references per category',
        records.map(({ count, set, summary }) => ({ x: count, y: summary.kl, series: set })),
      ),
      chart(
        'Accuracy',
        'references per category',
        records.map(({ count, set, summary }) => ({
          x: count,
          y: summary.accuracy ?? Number.NaN,
          series: set,
        })),
      ),
    ],
  };
}

/** What attributes do to each other: each one alone, and within every combination that has it. */
export async function studyInterference(
  laboratory: Laboratory,
  options: StudyOptions,
  context: JobContext = {},
): Promise<Section> {
  const records: Record<string, Cell>[] = [];
  for (const set of options.sets.filter((attributes) => attributes.length > 1)) {
    const together = await cellsOf(laboratory, options, { method: 'iti-gen', attributes: set }, context);
    for (const attribute of set) {
      const alone = await cellsOf(
        laboratory,
        options,
        { method: 'iti-gen', attributes: [attribute] },
        context,
      );
      records.push({
        combination: setName(set),
        attribute,
        'accuracy alone': attributeAccuracy(alone, attribute),
        'accuracy combined': attributeAccuracy(together, attribute),
        'KL alone': attributeKl(alone, attribute),
        'KL combined': attributeKl(together, attribute),
      });
    }
    const summary = summarize(together);
    records.push({
      combination: setName(set),
      attribute: 'all',
      'accuracy alone': null,
      'accuracy combined': summary.accuracy,
      'KL alone': null,
      'KL combined': summary.kl,
    });
  }
  const quality = await qualityRecords(laboratory, options, context);
  const bars = records.flatMap((record) =>
    (['accuracy alone', 'accuracy combined'] as const).flatMap((series) =>
      typeof record[series] === 'number'
        ? [{ category: `${record.combination}: ${record.attribute}`, series, value: record[series] }]
        : [],
    ),
  );
  return {
    title: 'Interference between attributes',
    blocks: [
      { kind: 'table', table: tableOf('Attributes alone and together', records, sizeNote(options)) },
      { kind: 'table', table: tableOf('Quality by number of attributes', quality, sizeNote(options)) },
      {
        kind: 'plot',
        title: 'Accuracy',
        svg: barChart(bars, { x: '', y: 'accuracy' }, { width: Math.max(560, records.length * 120) }),
      },
    ],
  };
}

async function qualityRecords(
  laboratory: Laboratory,
  options: StudyOptions,
  context: JobContext,
): Promise<Record<string, Cell>[]> {
  const records: Record<string, Cell>[] = [];
  for (const attributes of options.sets) {
    const summary = summarize(await cellsOf(laboratory, options, { method: 'iti-gen', attributes }, context));
    records.push({
      attributes: setName(attributes),
      count: attributes.length,
      combinations: summary.categories,
      ...summaryColumns(summary),
    });
  }
  return records.sort((a, b) => (a.combinations as number) - (b.combinations as number));
}

function attributeAccuracy(results: readonly CellResult[], attribute: string): number | null {
  const shares = results.flatMap(({ evaluation }) =>
    evaluation.accuracy.flatMap((own) => (own.attribute === attribute ? [own.share.value] : [])),
  );
  return shares.length === 0 ? null : meanOf(shares);
}

function attributeKl(results: readonly CellResult[], attribute: string): number {
  return meanOf(
    results.flatMap(({ evaluation }) =>
      evaluation.balance.flatMap((own) => (own.attribute === attribute ? [own.kl.value] : [])),
    ),
  );
}

/** The simplest case, before and after: one attribute. */
export async function studySingle(
  laboratory: Laboratory,
  options: StudyOptions,
  attribute: string,
  context: JobContext = {},
): Promise<Section> {
  const before = await cellsOf(laboratory, options, { method: 'vanilla', attributes: [attribute] }, context);
  const after = await cellsOf(laboratory, options, { method: 'iti-gen', attributes: [attribute] }, context);
  const rows = [
    { images: 'plain prompt', ...summaryColumns(summarize(before)) },
    { images: 'inclusive tokens', ...summaryColumns(summarize(after)) },
  ];
  const { folder } = laboratory.settings;
  const grids: Block[] = [];
  for (const [title, [cell]] of Object.entries({ 'Plain prompt': before, 'Inclusive tokens': after }))
    if (cell !== undefined) grids.push({ kind: 'images', title, images: await pictureGrids(cell, folder) });
  return {
    title: `One attribute: ${attribute}`,
    blocks: [
      { kind: 'table', table: tableOf('Before and after', rows, sizeNote(options)) },
      labelledHistogram(attribute, [
        { name: 'plain prompt', balances: before.flatMap(({ evaluation }) => evaluation.balance) },
        { name: 'inclusive tokens', balances: after.flatMap(({ evaluation }) => evaluation.balance) },
      ]),
      ...grids,
    ],
  };
}

interface DriftRecord {
  readonly set: string;
  readonly lambda: number;
  /** Cosines of learned prompts to the plain one: their mean and the least. */
  readonly text: number;
  readonly least: number;
  readonly summary: SeedSummary;
}

async function driftRecord(
  laboratory: Laboratory,
  options: StudyOptions,
  attributes: readonly string[],
  lambda: number,
  context: JobContext,
): Promise<DriftRecord> {
  const change = { consistency: lambda };
  const cosines: number[] = [];
  for (const seed of options.seeds) {
    const { tokens } = await laboratory.learn(attributes, learningOf(options, change), seed, context);
    cosines.push(...(await textCosines(tokens, laboratory)));
  }
  const cells = await cellsOf(
    laboratory,
    options,
    { method: 'iti-gen', attributes, learning: change },
    context,
  );
  return {
    set: setName(attributes),
    lambda,
    text: meanOf(cosines),
    least: Math.min(...cosines),
    summary: summarize(cells),
  };
}

/** How far tokens move the prompt's meaning, for each lambda. */
export async function studyDrift(
  laboratory: Laboratory,
  options: StudyOptions,
  lambdas: readonly number[],
  context: JobContext = {},
): Promise<Section> {
  const records: DriftRecord[] = [];
  for (const attributes of options.sets)
    for (const lambda of lambdas)
      records.push(await driftRecord(laboratory, options, attributes, lambda, context));
  const points = (value: (record: DriftRecord) => number | null) =>
    records.map((record) => ({ x: record.lambda, y: value(record) ?? Number.NaN, series: record.set }));
  return {
    title: 'Semantic drift against lambda',
    blocks: [
      {
        kind: 'table',
        table: tableOf(
          'Similarity to the plain prompt',
          records.map(({ set, lambda, text, least, summary }) => ({
            attributes: set,
            lambda,
            'text similarity, mean': text,
            'text similarity, least': least,
            ...summaryColumns(summary),
          })),
          `${sizeNote(options)} Text similarity: CLIP cosine of each learned prompt to the plain one.`,
        ),
      },
      chart(
        'Text similarity to the plain prompt',
        'lambda',
        points(({ text }) => text),
      ),
      chart(
        'Similarity of images to the plain prompt',
        'lambda',
        points(({ summary }) => summary.similarity),
      ),
      chart(
        'KL to uniform',
        'lambda',
        points(({ summary }) => summary.kl),
      ),
    ],
  };
}

async function textCosines(
  tokens: Parameters<typeof inclusiveTextFeatures>[0],
  { bench }: Laboratory,
): Promise<number[]> {
  const { inclusive, plain } = await inclusiveTextFeatures(tokens, bench.clip);
  return Array.from({ length: inclusive.count }, (_, i) => {
    let dot = 0;
    for (let d = 0; d < inclusive.width; d++)
      dot += (inclusive.data[i * inclusive.width + d] as number) * (plain.data[d] as number);
    return dot;
  });
}

function chart(title: string, x: string, points: Parameters<typeof lineChart>[0]): Block {
  return { kind: 'plot', title, svg: lineChart(points, { x, y: title }) };
}

function sizeNote({ images, seeds }: StudyOptions): string {
  return `${images} images per row and seed, ${seeds.length} seed${seeds.length === 1 ? '' : 's'}; means over seeds.`;
}
