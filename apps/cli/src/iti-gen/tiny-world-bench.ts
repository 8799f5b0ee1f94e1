/** Experiments on the embedded model: references are drawn, its judges judge, and their features measure quality. */
import path from 'node:path';
import { exists, invalid, type JobContext, sha256Json, writeJsonAtomic } from '@equipoise/core';
import {
  type AttributeClassifier,
  type AttributeFiles,
  type Bench,
  findAttributes,
  type QualityMeasure,
  type QualityReference,
  qualityReference,
  TRAIN_DEFAULTS,
  type Wording,
} from '@equipoise/iti-gen';
import type { RgbImage } from '@equipoise/models';
import {
  categoriesOf,
  categoryName,
  drawSamples,
  findHeadshots,
  HEADSHOT_ATTRIBUTES,
  type HeadshotAttribute,
  IMAGE_SIZE,
  type Judges,
  judgeFeatures,
  renderImages,
  type WorldSample,
  writeReferences,
} from '@equipoise/tiny-world';
import { hashFolder } from '@equipoise/weights';
import { loadEmbedded, packed } from '../showcase/model.js';

/** References drawn per category: the largest number an experiment chooses from, and as many again unseen. */
const REFERENCE_POOL = 200;

/**
 * Learning that suits the embedded CLIP, whose captions say each trait with one word: a token per category, side by side
 * where attributes meet, enough references for the mean of its features to be about the trait, room for prompts as far
 * from the plain one as "dark skin" is (cosine 0.46), and shifts about as large as those that words make. As many images
 * per update as published, and about as many updates.
 */
export const TINY_WORLD_LEARNING = {
  ...TRAIN_DEFAULTS,
  tokenLength: 1,
  join: 'concat',
  consistency: 0.6,
  strength: 1.5,
  references: 100,
  updatesPerEpoch: 20,
  epochs: 8,
} as const;

/** With more every skin comes out a tone darker than asked for, with less rare traits are left out. */
export const TINY_WORLD_GUIDANCE = 3.5;
/** Real pictures that generated ones are compared with. */
const REAL_PICTURES = 600;
const REFERENCE_SEED = 11;
const REAL_SEED = 12;

const named = (values: readonly string[], phrase: (value: string) => string): Wording[string] =>
  Object.fromEntries(values.map((value) => [value, { with: phrase(value) }]));

const worn = (what: string): Wording[string] => ({ negative: { without: what }, positive: { with: what } });

/** How the world's captions say each category; it has no words for an absence but "without". */
export const TINY_WORLD_WORDING: Wording = {
  skinTone: named(HEADSHOT_ATTRIBUTES.skinTone, (tone) => `${tone} skin`),
  hairColor: named(HEADSHOT_ATTRIBUTES.hairColor, (color) => `${color} hair`),
  hairLength: named(HEADSHOT_ATTRIBUTES.hairLength, (length) => `${length} hair`),
  eyeglasses: worn('eyeglasses'),
  hat: worn('a hat'),
  beard: worn('a beard'),
  smile: { negative: { without: 'a smile' }, positive: { before: 'smiling' } },
  age: { young: { before: 'young' }, old: { before: 'old' } },
};

/** @throws EquipoiseError naming the attributes there are */
export function headshotAttribute(name: string): HeadshotAttribute {
  if (!Object.hasOwn(HEADSHOT_ATTRIBUTES, name))
    throw invalid('attribute', `one of ${Object.keys(HEADSHOT_ATTRIBUTES).join(', ')}`, name);
  return name as HeadshotAttribute;
}

/** The embedded judge's verdicts on an attribute. */
export function judgeClassifiers(judges: Judges, attributes: readonly string[]): AttributeClassifier[] {
  let latest: { images: readonly RgbImage[]; faces: ReturnType<typeof findHeadshots> } | undefined;
  return attributes.map((name) => {
    const attribute = headshotAttribute(name);
    const values = categoriesOf(attribute);
    return {
      attribute,
      categories: values.map(categoryName),
      async classify(images, files) {
        requireWorldSize(images, files);
        if (latest?.images !== images)
          latest = { images, faces: findHeadshots(judges.headshot, packed(images)) };
        return (await latest.faces).map((face) => values.indexOf(face[attribute]));
      },
    };
  });
}

function requireWorldSize(images: readonly RgbImage[], files: readonly string[]): void {
  for (const [i, { width, height }] of images.entries())
    if (width !== IMAGE_SIZE || height !== IMAGE_SIZE)
      throw invalid(
        files[i] ?? `image ${i}`,
        `${IMAGE_SIZE} x ${IMAGE_SIZE} pixels, as the embedded judge takes`,
        [width, height],
      );
}

/** Quality in the judge's features, against pictures the world draws: as they fall, and evened out. */
export async function judgeQuality(judges: Judges, attributes: readonly string[]): Promise<QualityMeasure> {
  return {
    name: 'judge',
    features: (images) => judgeFeatures(judges.headshot, packed(images)),
    references: {
      'the world': await drawnReference(judges, [{}]),
      'the even world': await drawnReference(judges, requests(attributes.map(headshotAttribute))),
    },
  };
}

/** A request per combination of categories. */
function requests(attributes: readonly HeadshotAttribute[]): Record<string, string | boolean>[] {
  return attributes.reduce<Record<string, string | boolean>[]>(
    (all, attribute) =>
      all.flatMap((head) => categoriesOf(attribute).map((value) => ({ ...head, [attribute]: value }))),
    [{}],
  );
}

async function drawnReference(judges: Judges, wanted: readonly object[]): Promise<QualityReference> {
  const each = Math.ceil(REAL_PICTURES / wanted.length);
  const samples: WorldSample[] = wanted.flatMap((headshot, i) =>
    drawSamples(REAL_SEED, 'test', each, i * each, { kind: 'headshot', headshot }),
  );
  return qualityReference(await judgeFeatures(judges.headshot, await renderImages(samples)));
}

/**
 * The embedded model as a bench.
 *
 * @param weights its folder
 * @param settings what else decides how pictures come out: engine, precision
 */
export async function openTinyWorldBench(
  weights: string,
  settings: object,
  context: JobContext = {},
): Promise<Bench> {
  const { pipeline, clip, judges, parts } = await loadEmbedded(weights, context);
  const qualities = new Map<string, Promise<QualityMeasure>>();
  return {
    pipeline,
    clip,
    hash: sha256Json({
      model: parts.hash,
      clip: clip.hash,
      vae: await hashFolder(path.join(weights, 'vae')),
      judges: await hashFolder(path.join(weights, 'judges')),
      pool: REFERENCE_POOL,
      real: REAL_PICTURES,
      settings,
    }),
    wording: TINY_WORLD_WORDING,
    async references(attributes, folder): Promise<AttributeFiles[]> {
      for (const name of attributes) {
        const done = path.join(folder, `${name}.json`);
        if (await exists(done)) continue;
        await writeReferences(folder, [headshotAttribute(name)], {
          seed: REFERENCE_SEED,
          perCategory: REFERENCE_POOL,
        });
        await writeJsonAtomic(done, { seed: REFERENCE_SEED, perCategory: REFERENCE_POOL });
      }
      return inLabelOrder(await findAttributes(folder, attributes));
    },
    classifiers: (attributes) => judgeClassifiers(judges, attributes),
    quality(attributes) {
      const key = [...attributes].sort().join();
      const known = qualities.get(key) ?? judgeQuality(judges, attributes);
      qualities.set(key, known);
      return known;
    },
  };
}

/** Folders come by name; the judge counts in the world's order. */
function inLabelOrder(found: readonly AttributeFiles[]): AttributeFiles[] {
  return found.map(({ name, categories }) => {
    const order = categoriesOf(headshotAttribute(name)).map(categoryName);
    return {
      name,
      categories: [...categories].sort((a, b) => order.indexOf(a.name) - order.indexOf(b.name)),
    };
  });
}
