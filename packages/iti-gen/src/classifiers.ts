/** Who says which category an image shows: CLIP without training, or verdicts that another program gave. */
import path from 'node:path';
import { invalid, type JobContext, ProgressCounter, prose } from '@equipoise/core';
import type { Rows } from '@equipoise/metrics';
import { clipPreprocess, type RgbImage, unitLength } from '@equipoise/models';
import * as tf from '@tensorflow/tfjs-core';
import type { LoadedClip } from './clip-folder.js';
import { isMapping, readMapping } from './mapping.js';
import type { ClassTexts } from './wording.js';

/** Says which category of an attribute each image shows. */
export interface AttributeClassifier {
  readonly attribute: string;
  readonly categories: readonly string[];
  /**
   * @param files names of the images, for classifiers that look verdicts up
   * @returns category index per image
   */
  classify(images: readonly RgbImage[], files: readonly string[]): Promise<number[]>;
}

/**
 * Zero-shot classes: the category whose text is nearest to the image (the published evaluation). The features of a
 * list of images are computed once for all attributes.
 */
export function zeroShotClassifiers(
  clip: LoadedClip,
  classes: ClassTexts,
  context: JobContext = {},
): AttributeClassifier[] {
  let latest: { images: readonly RgbImage[]; rows: Promise<Rows> } | undefined;
  const imageRows = (images: readonly RgbImage[]): Promise<Rows> => {
    if (latest?.images !== images) latest = { images, rows: clipImageFeatures(clip, images, context) };
    return latest.rows;
  };
  return Object.entries(classes).map(([attribute, texts]) => {
    const categories = Object.keys(texts);
    if (categories.length < 2) throw invalid(`classes of ${attribute}`, 'at least two', categories.length);
    return {
      attribute,
      categories,
      async classify(images) {
        const text = await clipTextFeatures(clip, Object.values(texts));
        return nearestRows(await imageRows(images), text);
      },
    };
  });
}

/** For each row of `a` the row of `b` with the largest product; the first of equals. */
function nearestRows(a: Rows, b: Rows): number[] {
  return Array.from({ length: a.count }, (_, i) => {
    let best = 0;
    let highest = Number.NEGATIVE_INFINITY;
    for (let k = 0; k < b.count; k++) {
      let product = 0;
      for (let d = 0; d < a.width; d++)
        product += (a.data[i * a.width + d] as number) * (b.data[k * b.width + d] as number);
      if (product > highest) [best, highest] = [k, product];
    }
    return best;
  });
}

/**
 * Verdicts of any other classifier, from a JSON or YAML file
 * `{attributes: {Age: [young, old]}, images: {"0001.png": {Age: young}}}`; names are relative to the file.
 */
export async function givenClassifiers(file: string): Promise<AttributeClassifier[]> {
  const document = await readMapping(file);
  const { attributes, images } = document;
  if (!isMapping(attributes)) throw invalid(`${file}: attributes`, 'categories by attribute', attributes);
  if (!isMapping(images)) throw invalid(`${file}: images`, 'categories by image', images);
  const base = path.dirname(path.resolve(file));
  const verdicts = new Map(Object.entries(images).map(([name, own]) => [path.resolve(base, name), own]));
  return Object.entries(attributes).map(([attribute, categories]) => {
    if (!Array.isArray(categories) || categories.length < 2 || categories.some((c) => typeof c !== 'string'))
      throw invalid(`${file}: attributes.${attribute}`, 'at least two names', categories);
    return {
      attribute,
      categories: categories as string[],
      classify: async (_images, files) =>
        files.map((name) => {
          const verdict = verdicts.get(path.resolve(name));
          if (!isMapping(verdict))
            throw invalid(file, `a verdict for ${name}`, prose('none'), { code: 'missing' });
          const index = categories.indexOf(verdict[attribute] as string);
          if (index < 0)
            throw invalid(
              `${file}: ${name}: ${attribute}`,
              `one of ${categories.join(', ')}`,
              verdict[attribute],
            );
          return index;
        }),
    };
  });
}

type ClipImages = Pick<LoadedClip, 'clip' | 'preprocess'>;
type ClipTexts = Pick<LoadedClip, 'clip'> & {
  readonly tokenizer: Pick<LoadedClip['tokenizer'], 'encodeBatch'>;
};

/** Unit-length CLIP features of images. */
export async function clipImageFeatures(
  { clip, preprocess }: ClipImages,
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
  { clip, tokenizer }: ClipTexts,
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
