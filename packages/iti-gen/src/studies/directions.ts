/** Do learned prompts point where the images point? Cosines of all pairs of categories, also on unseen references. */
import path from 'node:path';
import type { JobContext } from '@equipoise/core';
import type { Rows } from '@equipoise/metrics';
import { unitLength } from '@equipoise/models';
import { barChart, lineChart, type Section, tableOf } from '@equipoise/report';
import * as tf from '@tensorflow/tfjs-core';
import { type Attribute, chooseReferences, combinations } from '../attributes.js';
import { clipTextFeatures } from '../classifiers.js';
import type { LoadedClip } from '../clip-folder.js';
import { tokenTemplate } from '../embeddings.js';
import { type AttributeFeatures, attributeFeatures, categoryMeans } from '../features.js';
import type { Laboratory } from '../laboratory.js';
import { combinedTokens, type InclusiveTokens } from '../tokens.js';
import type { TrainResult } from '../train-job.js';
import { wordedPrompts } from '../wording.js';
import { learningOf, meanOf, type StudyOptions, setName } from './summary.js';

/** Unit-length text features [N, D] of all combinations of learned tokens, and [1, D] of the plain prompt. */
export async function inclusiveTextFeatures(
  tokens: InclusiveTokens,
  { clip, tokenizer }: LoadedClip,
  prompt = tokens.prompt,
): Promise<{ inclusive: Rows; plain: Rows }> {
  const template = tokenTemplate(tokens, clip, tokenizer, prompt);
  const width = clip.config.projection_dim;
  const features = tf.tidy(() => {
    const { pooled } = clip.textModel.forwardEmbeddings(clip.textModel.embed([template.plainIds]), [
      template.start,
    ]);
    const states = tf.concat([pooled, template.readoutInFull(combinedTokens(tokens))], 0);
    return unitLength(clip.textProjection.forward(states) as tf.Tensor2D);
  });
  const data = Float32Array.from(await features.data());
  features.dispose();
  template.dispose();
  return {
    plain: { count: 1, width, data: data.subarray(0, width) },
    inclusive: { count: data.length / width - 1, width, data: data.subarray(width) },
  };
}

/** Cosine between a direction of texts and one of images, averaged over the contexts of a pair; NaN without one. */
export function pairCosines(
  text: Rows,
  sizes: readonly number[],
  attribute: number,
  imageMeans: Float32Array,
): { pair: [number, number]; cosine: number }[] {
  const all = combinations(sizes);
  const { width } = text;
  const count = sizes[attribute] as number;
  const found: { pair: [number, number]; cosine: number }[] = [];
  for (let i = 0; i < count; i++) {
    for (let j = i + 1; j < count; j++) {
      const image = difference(imageMeans, i, j, width);
      const cosines = all.flatMap((indices, row) => {
        if (indices[attribute] !== i) return [];
        const other = all.findIndex((candidate) =>
          candidate.every((k, a) => k === (a === attribute ? j : indices[a])),
        );
        return [cosine(difference(text.data, row, other, width), image)];
      });
      found.push({ pair: [i, j], cosine: meanOf(cosines) });
    }
  }
  return found;
}

function difference(data: ArrayLike<number>, i: number, j: number, width: number): Float64Array {
  return Float64Array.from(
    { length: width },
    (_, d) => (data[i * width + d] as number) - (data[j * width + d] as number),
  );
}

function cosine(a: Float64Array, b: Float64Array): number {
  let [ab, aa, bb] = [0, 0, 0];
  for (let d = 0; d < a.length; d++) {
    const [x, y] = [a[d] as number, b[d] as number];
    ab += x * y;
    aa += x * x;
    bb += y * y;
  }
  return ab / Math.sqrt(aa * bb);
}

/** Mean features of each category over the references that `take` chooses; undefined when a category has none. */
function meansOf(
  attribute: Attribute,
  features: AttributeFeatures,
  take: (hash: string) => boolean,
): Float32Array | undefined {
  const hashes = attribute.categories.flatMap(({ images }) => images.map(({ hash }) => hash));
  const rows = hashes.flatMap((hash, row) => (take(hash) ? [row] : []));
  const { means, counts } = categoryMeans(features, rows, attribute.categories.length);
  return counts.every((count) => count > 0) ? means : undefined;
}

/** Learns each set with the first seed, and compares directions. */
export async function studyDirections(
  laboratory: Laboratory,
  options: StudyOptions,
  context: JobContext = {},
): Promise<Section> {
  const records: DirectionRecord[] = [];
  const logs: { name: string; result: TrainResult }[] = [];
  for (const set of options.sets) {
    const { records: own, result } = await directionsOf(laboratory, options, set, context);
    records.push(...own);
    logs.push({ name: setName(set), result });
  }
  const present = (key: 'unseen' | 'words'): number[] =>
    records.flatMap((record) => (record[key] === null ? [] : [record[key]]));
  const table = tableOf(
    'Cosine between prompt directions and image directions, all pairs of categories',
    records.map(({ set, attribute, pair, learned, unseen, words }) => ({
      set,
      attribute,
      pair,
      'learned, its references': learned,
      'learned, unseen references': unseen,
      '"with / without" words, unseen references': words,
    })),
    `Means over contexts. Averages: learned ${meanOf(records.map(({ learned }) => learned)).toFixed(3)}, on unseen references ${meanOf(present('unseen')).toFixed(3)}, words ${meanOf(present('words')).toFixed(3)}. A dash: no unseen references, or words that give the same text.`,
  );
  const bars = records.flatMap(({ set, pair, learned, unseen, words }) =>
    Object.entries({ learned, unseen, words }).flatMap(([series, value]) =>
      value === null ? [] : [{ category: `${set}: ${pair}`, series, value }],
    ),
  );
  return {
    title: 'Direction alignment',
    blocks: [
      { kind: 'table', table },
      {
        kind: 'plot',
        title: 'All pairs',
        svg: barChart(bars, { x: '', y: 'cosine' }, { width: Math.max(560, records.length * 110) }),
      },
      {
        kind: 'plot',
        title: 'Mean cosine of all pairs while learning',
        svg: lineChart(
          logs.flatMap(({ name, result }) =>
            result.log.map((step, x) => ({
              x,
              y: meanOf(step.pairCosine),
              series: `${name}: ${step.attribute}`,
            })),
          ),
          { x: 'update', y: 'cosine' },
        ),
      },
    ],
  };
}

interface DirectionRecord {
  readonly set: string;
  readonly attribute: string;
  readonly pair: string;
  readonly learned: number;
  readonly unseen: number | null;
  readonly words: number | null;
}

async function directionsOf(
  laboratory: Laboratory,
  options: StudyOptions,
  set: readonly string[],
  context: JobContext,
): Promise<{ records: DirectionRecord[]; result: TrainResult }> {
  const { bench, settings } = laboratory;
  const { clip } = bench;
  const seed = options.seeds[0] ?? 0;
  const learning = learningOf(options);
  const result = await laboratory.learn(set, learning, seed, context);
  const { inclusive } = await inclusiveTextFeatures(result.tokens, clip);
  const found = await bench.references(set, path.join(settings.folder, 'references'));
  const used = await chooseReferences(found, learning.references, seed, context);
  const all = await chooseReferences(found, Number.POSITIVE_INFINITY, seed, context);
  const classes = found.map(({ name, categories }) => ({ name, categories: categories.map((c) => c.name) }));
  const sizes = classes.map(({ categories }) => categories.length);
  const words = await clipTextFeatures(
    clip,
    wordedPrompts(options.prompt, bench.wording, classes, 'negated'),
  );
  const source = {
    clip: clip.clip,
    clipHash: clip.hash,
    preprocess: clip.preprocess,
    cacheFolder: path.join(settings.folder, 'features'),
  };
  const records: DirectionRecord[] = [];
  for (const [a, attribute] of all.entries()) {
    const features = await attributeFeatures(attribute, source, context);
    const chosen = new Set(used[a]?.categories.flatMap(({ images }) => images.map(({ hash }) => hash)));
    const seen = meansOf(attribute, features, (hash) => chosen.has(hash)) as Float32Array;
    const unseen = meansOf(attribute, features, (hash) => !chosen.has(hash));
    const learned = pairCosines(inclusive, sizes, a, seen);
    const others = unseen && pairCosines(inclusive, sizes, a, unseen);
    const worded = unseen && pairCosines(words, sizes, a, unseen);
    for (const [p, { pair, cosine: value }] of learned.entries()) {
      const [i, j] = pair.map((k) => attribute.categories[k]?.name);
      records.push({
        set: setName(set),
        attribute: attribute.name,
        pair: `${i} - ${j}`,
        learned: value,
        unseen: finiteOrNull(others?.[p]?.cosine),
        words: finiteOrNull(worded?.[p]?.cosine),
      });
    }
  }
  return { records, result };
}

function finiteOrNull(value: number | undefined): number | null {
  return value !== undefined && Number.isFinite(value) ? value : null;
}
