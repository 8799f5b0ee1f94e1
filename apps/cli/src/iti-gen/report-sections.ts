/** Sections of an ITI-GEN report, from what runs left in their folders. */
import { labelledGrids, labelledHistogram, type StepLog } from '@equipoise/iti-gen';
import { type Block, type Cell, lineChart, type Section, tableOf } from '@equipoise/report';
import type { EvaluationRecord as StoredEvaluation } from './evaluation-file.js';

type EvaluationRecord = Omit<StoredEvaluation, 'format'>;

/** Numbers, histograms and grids of evaluations side by side: before and after. */
export async function evaluationSections(records: readonly EvaluationRecord[]): Promise<Section[]> {
  if (records.length === 0) return [];
  const attributes = [
    ...new Set(records.flatMap(({ evaluation }) => evaluation.balance.map(({ attribute }) => attribute))),
  ];
  const histograms = attributes.map((attribute) =>
    labelledHistogram(
      attribute,
      records.map(({ name, evaluation }) => ({ name, balances: evaluation.balance })),
    ),
  );
  const grids: Block[] = [];
  for (const { name, images } of records)
    grids.push({ kind: 'images', title: name, images: await labelledGrids(images) });
  return [
    { title: 'Inclusiveness', blocks: [{ kind: 'table', table: balanceTable(records) }, ...histograms] },
    { title: 'Quality', blocks: qualityBlocks(records) },
    { title: 'Categories', blocks: [{ kind: 'table', table: countTable(records) }] },
    { title: 'Pictures', blocks: grids },
  ];
}

function balanceTable(records: readonly EvaluationRecord[]): ReturnType<typeof tableOf> {
  const rows = records.flatMap(({ name, judge, evaluation }) =>
    evaluation.balance.map(({ attribute, categories, kl, target }): Record<string, Cell> => {
      const accuracy = evaluation.accuracy.find((own) => own.attribute === attribute)?.share;
      return {
        images: name,
        attribute,
        categories: categories.length,
        'KL to uniform': kl.value,
        '95 % low': kl.low,
        '95 % high': kl.high,
        'KL to target': target?.kl.value ?? null,
        accuracy: accuracy?.value ?? null,
        pictures: evaluation.images,
        judge,
      };
    }),
  );
  return tableOf(
    'Distribution of categories',
    rows,
    'Nats; intervals by bootstrap over pictures. In random samples KL is biased upwards by about (categories - 1) / (2 pictures). Accuracy: share of pictures that show what was asked for.',
  );
}

function countTable(records: readonly EvaluationRecord[]): ReturnType<typeof tableOf> {
  const diverse = records.some(({ evaluation }) => evaluation.diversity);
  const rows = records.flatMap(({ name, evaluation }) =>
    evaluation.balance.flatMap(({ attribute, categories, counts, target, vendi }) =>
      categories.map(
        (category, k): Record<string, Cell> => ({
          images: name,
          attribute,
          category,
          pictures: counts[k] as number,
          share: (counts[k] as number) / evaluation.images,
          wanted: target?.shares[k] ?? 1 / categories.length,
          ...(diverse && { 'Vendi score': vendi?.[k] ?? null }),
        }),
      ),
    ),
  );
  return tableOf('Pictures of each category', rows, diverse ? VENDI : undefined);
}

const VENDI =
  'Vendi score: how many pictures that have nothing in common would be as diverse; 1 where all are alike. It grows with the number of pictures: compare equal numbers only.';

function qualityBlocks(records: readonly EvaluationRecord[]): Block[] {
  const distances = records.flatMap(({ name, evaluation }) =>
    evaluation.distances.map(
      ({ features, reference, referenceImages, value, kernel }): Record<string, Cell> => ({
        images: name,
        features,
        reference,
        'reference pictures': referenceImages,
        pictures: evaluation.images,
        'Frechet distance': value,
        'kernel distance': kernel?.value ?? null,
        'standard error': kernel?.standardError ?? null,
      }),
    ),
  );
  const diversities = records.flatMap(
    ({ name, evaluation: { images, diversity } }): Record<string, Cell>[] =>
      diversity
        ? [{ images: name, features: diversity.features, pictures: images, 'Vendi score': diversity.vendi }]
        : [],
  );
  const similarities = records.flatMap(({ name, evaluation: { similarity } }): Record<string, Cell>[] =>
    similarity === null
      ? []
      : [
          {
            images: name,
            prompt: similarity.prompt,
            'CLIP similarity': similarity.cosine.value,
            '95 % low': similarity.cosine.low,
            '95 % high': similarity.cosine.high,
          },
        ],
  );
  const blocks: Block[] = [];
  if (distances.length > 0)
    blocks.push({
      kind: 'table',
      table: tableOf(
        'Distances to real pictures',
        distances,
        "With Inception's features these are FID and KID. The Frechet distance depends on the number of pictures: compare equal numbers only. The kernel distance does not, and may lie below 0 where pictures are alike; its standard error is by the jackknife over pictures.",
      ),
    });
  if (diversities.length > 0) blocks.push({ kind: 'table', table: tableOf('Diversity', diversities, VENDI) });
  if (similarities.length > 0)
    blocks.push({ kind: 'table', table: tableOf('Similarity to the prompt', similarities) });
  if (blocks.length === 0) blocks.push({ kind: 'text', text: 'Not measured.' });
  return blocks;
}

/** Losses and direction cosines of a training. */
export function trainingSection(name: string, log: readonly StepLog[]): Section {
  const attributes = [...new Set(log.map(({ attribute }) => attribute))];
  const last = attributes.map((attribute): Record<string, Cell> => {
    const own = log.filter((step) => step.attribute === attribute);
    const final = own.at(-1) as StepLog;
    return {
      attribute,
      updates: own.length,
      'direction loss': final.direction,
      'consistency loss': final.consistency,
      'shift shortfall': final.shortfall,
      'least cosine': Math.min(...final.pairCosine),
      'mean cosine': final.pairCosine.reduce((a, b) => a + b, 0) / final.pairCosine.length,
    };
  });
  const points = (value: (step: StepLog) => number) =>
    attributes.flatMap((attribute) =>
      log
        .filter((step) => step.attribute === attribute)
        .map((step, x) => ({ x, y: value(step), series: attribute })),
    );
  const chart = (title: string, value: (step: StepLog) => number): Block => ({
    kind: 'plot',
    title,
    svg: lineChart(points(value), { x: 'update', y: title }),
  });
  return {
    title: `Learning: ${name}`,
    blocks: [
      { kind: 'table', table: tableOf(`Last update of ${name}`, last) },
      chart('direction loss', (step) => step.direction),
      chart('consistency loss', (step) => step.consistency),
      chart(
        'mean cosine of pairs',
        (step) => step.pairCosine.reduce((a, b) => a + b, 0) / step.pairCosine.length,
      ),
    ],
  };
}
