/** How inclusive a set of images is: who judges, how even the categories are, how good the pictures. */
import { invalid, type JobContext, ProgressCounter } from '@equipoise/core';
import {
  countLabels,
  type Estimate,
  featureStatistics,
  frechetDistance,
  klToUniformWithInterval,
  type Rows,
  rowCosines,
} from '@equipoise/metrics';
import {
  type CLIPModel,
  type ClipPreprocessOptions,
  clipPreprocess,
  type RgbImage,
  unitLength,
} from '@equipoise/models';
import * as tf from '@tensorflow/tfjs-core';
import type { PromptTokenizer } from './prompt.js';

/** Says which category of an attribute each image shows; may be a trained classifier or CLIP itself. */
export interface AttributeClassifier {
  readonly attribute: string;
  readonly categories: readonly string[];
  /** Category index per image. */
  classify(images: readonly RgbImage[]): Promise<number[]>;
}

/** Zero-shot classes: the category whose text is nearest to the image (the published evaluation). */
export function zeroShotClassifier(
  clip: CLIPModel,
  tokenizer: PromptTokenizer & { encodeBatch(texts: readonly string[]): { ids: Int32Array; length: number } },
  preprocess: ClipPreprocessOptions,
  attribute: string,
  classes: Readonly<Record<string, string>>,
): AttributeClassifier {
  const categories = Object.keys(classes);
  if (categories.length < 2) throw invalid(`classes of ${attribute}`, 'at least two', categories.length);
  return {
    attribute,
    categories,
    async classify(images) {
      const text = await clipTextFeatures(clip, tokenizer, Object.values(classes));
      const image = await clipImageFeatures(clip, preprocess, images);
      const depth = text.width;
      return Array.from({ length: images.length }, (_, i) => {
        const scores = categories.map((_, k) => dot(image.data, i * depth, text.data, k * depth, depth));
        return scores.indexOf(Math.max(...scores));
      });
    },
  };
}

function dot(a: ArrayLike<number>, at: number, b: ArrayLike<number>, bt: number, n: number): number {
  let sum = 0;
  for (let d = 0; d < n; d++) sum += (a[at + d] as number) * (b[bt + d] as number);
  return sum;
}

/** Unit-length CLIP features of images. */
export async function clipImageFeatures(
  clip: CLIPModel,
  preprocess: ClipPreprocessOptions,
  images: readonly RgbImage[],
  context: JobContext = {},
  batch = 32,
): Promise<Rows> {
  const width = clip.config.projection_dim;
  const data = new Float32Array(images.length * width);
  const progress = new ProgressCounter('CLIP features', context, { total: images.length, unit: 'image' });
  for (let start = 0; start < images.length; start += batch) {
    const part = images.slice(start, start + batch);
    const result = tf.tidy(() => unitLength(clip.imageFeatures(clipPreprocess(part, preprocess))));
    data.set(await result.data<'float32'>(), start * width);
    result.dispose();
    progress.advance(part.length);
  }
  return { count: images.length, width, data };
}

/** Unit-length CLIP features of texts. */
export async function clipTextFeatures(
  clip: CLIPModel,
  tokenizer: { encodeBatch(texts: readonly string[]): { ids: Int32Array; length: number } },
  texts: readonly string[],
): Promise<Rows> {
  const { ids, length } = tokenizer.encodeBatch(texts);
  const result = tf.tidy(() =>
    unitLength(clip.textFeatures(texts.map((_, i) => ids.subarray(i * length, (i + 1) * length)))),
  );
  const data = Float32Array.from(await result.data<'float32'>());
  result.dispose();
  return { count: texts.length, width: clip.config.projection_dim, data };
}

/** How the categories of one attribute, or of combined ones, are distributed over images. */
export interface AttributeBalance {
  readonly attribute: string;
  readonly categories: readonly string[];
  readonly counts: readonly number[];
  /** Divergence to the uniform distribution in nats, with a bootstrap interval over images. */
  readonly kl: Estimate;
}

/** Category index of each image per classifier. */
export async function classifyAll(
  images: readonly RgbImage[],
  classifiers: readonly AttributeClassifier[],
): Promise<number[][]> {
  const labels: number[][] = [];
  for (const classifier of classifiers) labels.push(await classifier.classify(images));
  return labels;
}

/** The balance of each attribute, and of all of them combined when there are several. */
export function balance(
  classifiers: readonly Pick<AttributeClassifier, 'attribute' | 'categories'>[],
  labels: readonly (readonly number[])[],
  seed = 0,
): AttributeBalance[] {
  const single = classifiers.map(({ attribute, categories }, a) =>
    balanceOf(attribute, categories, labels[a] as readonly number[], seed),
  );
  if (classifiers.length < 2) return single;
  const sizes = classifiers.map(({ categories }) => categories.length);
  const combined = (labels[0] as readonly number[]).map((_, i) =>
    sizes.reduce((index, size, a) => index * size + ((labels[a] as readonly number[])[i] as number), 0),
  );
  const names = classifiers.reduce<string[]>(
    (all, { categories }) => all.flatMap((head) => categories.map((c) => (head === '' ? c : `${head} ${c}`))),
    [''],
  );
  return [
    ...single,
    balanceOf(classifiers.map(({ attribute }) => attribute).join(' x '), names, combined, seed),
  ];
}

function balanceOf(
  attribute: string,
  categories: readonly string[],
  labels: readonly number[],
  seed: number,
): AttributeBalance {
  const counts = [...countLabels(labels, categories.length)];
  return { attribute, categories, counts, kl: klToUniformWithInterval(labels, categories.length, { seed }) };
}

/** Frechet distance between two sets of features. */
export function frechet(a: Rows, b: Rows): number {
  return frechetDistance(featureStatistics(a), featureStatistics(b));
}

/** Mean cosine between images and one text. */
export function promptSimilarity(images: Rows, text: Rows): number {
  const { count, width } = images;
  const repeated: Rows = {
    count,
    width,
    data: Float32Array.from({ length: count * width }, (_, i) => text.data[i % width] as number),
  };
  const cosines = rowCosines(images, repeated);
  return cosines.reduce((sum, value) => sum + value, 0) / cosines.length;
}
