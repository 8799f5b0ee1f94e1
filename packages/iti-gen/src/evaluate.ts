/** How inclusive a set of images is: how even the categories are, how often they are right, how good the pictures. */
import { setImmediate } from 'node:timers/promises';
import { invalid, type JobContext, prose, throwIfCancelled } from '@equipoise/core';
import {
  countLabels,
  type Estimate,
  type FeatureStatistics,
  featureStatistics,
  frechetDistance,
  type KernelDistance,
  kernelDistance,
  klToTargetWithInterval,
  klToUniformWithInterval,
  meanWithInterval,
  type Rows,
  rowCosines,
  vendiScore,
} from '@equipoise/metrics';
import type { RgbImage } from '@equipoise/models';
import { type AttributeClassifier, clipImageFeatures, clipTextFeatures } from './classifiers.js';
import type { LoadedClip } from './clip-folder.js';

/** How the categories of one attribute, or of combined ones, are distributed over images. */
export interface AttributeBalance {
  readonly attribute: string;
  readonly categories: readonly string[];
  readonly counts: readonly number[];
  /** Divergence to the uniform distribution in nats, with a bootstrap interval over images. */
  readonly kl: Estimate;
  /** Where another distribution was wanted: its shares and the divergence to it. */
  readonly target?: { readonly shares: readonly number[]; readonly kl: Estimate };
  /** Vendi score of each category's images; null for a category without any. Missing where no features were taken. */
  readonly vendi?: readonly (number | null)[];
}

/** Wanted shares of an attribute's categories, where they are not equal. */
export type Targets = Readonly<Record<string, readonly number[]>>;

/** Category index of each image per classifier. */
export async function classifyAll(
  images: readonly RgbImage[],
  files: readonly string[],
  classifiers: readonly AttributeClassifier[],
): Promise<number[][]> {
  const labels: number[][] = [];
  for (const classifier of classifiers) labels.push(await classifier.classify(images, files));
  return labels;
}

type Named = Pick<AttributeClassifier, 'attribute' | 'categories'>;

/**
 * The balance of each attribute, and of all of them combined when there are several.
 *
 * @param features of the images, for the diversity within categories
 */
export function balance(
  classifiers: readonly Named[],
  labels: readonly (readonly number[])[],
  seed = 0,
  targets: Targets = {},
  features?: Rows,
): AttributeBalance[] {
  const single = classifiers.map((own, a) =>
    balanceOf(own, labels[a] as readonly number[], seed, targets[own.attribute], features),
  );
  if (classifiers.length < 2) return single;
  const sizes = classifiers.map(({ categories }) => categories.length);
  const combined = (labels[0] as readonly number[]).map((_, i) =>
    sizes.reduce((index, size, a) => index * size + ((labels[a] as readonly number[])[i] as number), 0),
  );
  const all = {
    attribute: classifiers.map(({ attribute }) => attribute).join(' x '),
    categories: product(classifiers.map(({ categories }) => categories.map((c) => [c]))).map((c) =>
      c.join(' '),
    ),
  };
  // Attributes are wanted independently of each other.
  const wanted = classifiers.map(
    ({ attribute, categories }) => targets[attribute] ?? categories.map(() => 1),
  );
  const target = product(wanted.map((shares) => shares.map((share) => [share]))).map((shares) =>
    shares.reduce((a, b) => a * b, 1),
  );
  const given = classifiers.some(({ attribute }) => targets[attribute] !== undefined);
  return [...single, balanceOf(all, combined, seed, given ? target : undefined, features)];
}

/** All ways to take one list of each, joined; the first varies slowest. */
function product<T>(lists: readonly (readonly (readonly T[])[])[]): T[][] {
  return lists.reduce<T[][]>(
    (all, list) => all.flatMap((head) => list.map((tail) => [...head, ...tail])),
    [[]],
  );
}

function balanceOf(
  { attribute, categories }: Named,
  labels: readonly number[],
  seed: number,
  target?: readonly number[],
  features?: Rows,
): AttributeBalance {
  const own = {
    attribute,
    categories,
    counts: [...countLabels(labels, categories.length)],
    kl: klToUniformWithInterval(labels, categories.length, { seed }),
    ...(features !== undefined && { vendi: categories.map((_, k) => vendiOf(features, labels, k)) }),
  };
  if (target === undefined) return own;
  if (target.length !== categories.length)
    throw invalid(`shares of ${attribute}`, `${categories.length} numbers`, target.length);
  const sum = target.reduce((a, b) => a + b, 0);
  return {
    ...own,
    target: {
      shares: target.map((share) => share / sum),
      kl: klToTargetWithInterval(labels, target, { seed }),
    },
  };
}

/** Diversity of the images of one category. */
function vendiOf({ data, width }: Rows, labels: readonly number[], category: number): number | null {
  const rows = labels.flatMap((label, i) => (label === category ? [i] : []));
  if (rows.length === 0) return null;
  const own = Float64Array.from(
    { length: rows.length * width },
    (_, i) => data[(rows[Math.floor(i / width)] as number) * width + (i % width)] as number,
  );
  return vendiScore({ data: own, count: rows.length, width });
}

/** Features of real pictures. */
export interface QualityReference {
  readonly rows: Rows;
  readonly statistics: FeatureStatistics;
}

export function qualityReference(rows: Rows): QualityReference {
  return { rows, statistics: featureStatistics(rows) };
}

/** What the quality of pictures is measured in, against real ones. */
export interface QualityMeasure {
  /** Whose features: `Inception`, `judge`. */
  readonly name: string;
  features(images: readonly RgbImage[], context: JobContext): Promise<Rows>;
  /** Real pictures, by what they are. */
  readonly references: Readonly<Record<string, QualityReference>>;
}

/** Distances to real pictures; with Inception's features, FID and KID. */
export interface Distance {
  readonly features: string;
  readonly reference: string;
  readonly referenceImages: number;
  /** Frechet distance. */
  readonly value: number;
  /** Kernel distance. Missing in evaluations of earlier versions. */
  readonly kernel?: KernelDistance;
}

export interface EvaluationInput {
  readonly images: readonly RgbImage[];
  readonly files: readonly string[];
  readonly classifiers: readonly AttributeClassifier[];
  /** Categories each image was asked to show, `{attribute: category}`, where that is known. */
  readonly intended?: readonly Readonly<Record<string, string>>[];
  readonly targets?: Targets;
  readonly quality?: QualityMeasure | null;
  /** Prompt whose similarity to the images is measured, and with which CLIP. */
  readonly similarity?: { readonly clip: LoadedClip; readonly prompt: string } | null;
  /** Of the bootstrap. */
  readonly seed: number;
}

/** All numbers about one set of images. */
export interface Evaluation {
  readonly images: number;
  /** Attribute by attribute, then all combined when there are several. */
  readonly balance: readonly AttributeBalance[];
  /** Share of images that show the category they were asked for; empty where nothing was asked for. */
  readonly accuracy: readonly { readonly attribute: string; readonly share: Estimate }[];
  readonly distances: readonly Distance[];
  /** Vendi score of all images, and in whose features; null where none were taken. Within categories: see `balance`. */
  readonly diversity?: { readonly features: string; readonly vendi: number } | null;
  /** Mean CLIP cosine of the images to the prompt. */
  readonly similarity: { readonly prompt: string; readonly cosine: Estimate } | null;
}

/** Judges, counts and measures a set of images. */
export async function evaluateImages(input: EvaluationInput, context: JobContext = {}): Promise<Evaluation> {
  const { images, files, classifiers, seed, targets, quality, similarity, intended } = input;
  if (images.length === 0) throw invalid('images', 'at least one', prose('none'), { code: 'missing' });
  if (quality && images.length < 2)
    throw invalid('images', 'at least 2, to measure their distance to others', images.length);
  const labels = await classifyAll(images, files, classifiers);
  const rows = await imageFeatures(input, context);
  // The features that quality is measured in tell pictures apart best; CLIP's where there are no others.
  const [features, taken] = rows.quality ? [quality?.name, rows.quality] : ['CLIP', rows.clip];
  return {
    images: images.length,
    balance: balance(classifiers, labels, seed, targets, taken),
    accuracy: intended === undefined ? [] : accuracies(classifiers, labels, intended, seed),
    distances: quality && rows.quality ? await distances(rows.quality, quality, seed, context) : [],
    diversity: features && taken ? { features, vendi: vendiScore(taken) } : null,
    similarity:
      similarity && rows.clip
        ? { prompt: similarity.prompt, cosine: await cosineTo(rows.clip, similarity, seed) }
        : null,
  };
}

/** The images in the features that are asked for. */
async function imageFeatures(
  { images, quality, similarity }: EvaluationInput,
  context: JobContext,
): Promise<{ quality?: Rows; clip?: Rows }> {
  return {
    ...(quality && { quality: await quality.features(images, context) }),
    ...(similarity && { clip: await clipImageFeatures(similarity.clip, images, context) }),
  };
}

function accuracies(
  classifiers: readonly Named[],
  labels: readonly (readonly number[])[],
  intended: readonly Readonly<Record<string, string>>[],
  seed: number,
): { attribute: string; share: Estimate }[] {
  return classifiers.flatMap(({ attribute, categories }, a) => {
    const right = intended.flatMap((own, i) =>
      own[attribute] === undefined
        ? []
        : [own[attribute] === categories[(labels[a] as readonly number[])[i] as number] ? 1 : 0],
    );
    return right.length === 0 ? [] : [{ attribute, share: meanWithInterval(right, { seed }) }];
  });
}

async function distances(
  images: Rows,
  { name, references }: QualityMeasure,
  seed: number,
  { signal }: JobContext,
): Promise<Distance[]> {
  const own = featureStatistics(images);
  const found: Distance[] = [];
  for (const [reference, { rows, statistics }] of Object.entries(references)) {
    // With Inception's features each takes a while: who wants to stop is heard in between.
    await setImmediate();
    throwIfCancelled(signal, 'distances');
    found.push({
      features: name,
      reference,
      referenceImages: statistics.count,
      value: frechetDistance(own, statistics),
      kernel: kernelDistance(images, rows, { seed }),
    });
  }
  return found;
}

async function cosineTo(
  images: Rows,
  { clip, prompt }: { clip: LoadedClip; prompt: string },
  seed: number,
): Promise<Estimate> {
  return meanWithInterval(promptCosines(images, await clipTextFeatures(clip, [prompt])), { seed });
}

function promptCosines(images: Rows, text: Rows): Float64Array {
  const { count, width } = images;
  const data = Float32Array.from({ length: count * width }, (_, i) => text.data[i % width] as number);
  return rowCosines(images, { count, width, data });
}

/** Frechet distance between two sets of features. */
export function frechet(a: Rows, b: Rows): number {
  return frechetDistance(featureStatistics(a), featureStatistics(b));
}

/** Mean cosine between images and one text. */
export function promptSimilarity(images: Rows, text: Rows): number {
  const cosines = promptCosines(images, text);
  return cosines.reduce((sum, value) => sum + value, 0) / cosines.length;
}
