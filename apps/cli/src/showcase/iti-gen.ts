/** ITI-GEN on the embedded model: learn tokens, draw before and after, let the judge count. */
import { join } from 'node:path';
import type { JobContext } from '@equipoise/core';
import {
  type AttributeBalance,
  balance,
  clipImageFeatures,
  clipTextFeatures,
  findAttributes,
  frechet,
  generateFromPrompts,
  generateImages,
  inclusivePrompts,
  type Learning,
  promptSimilarity,
  readImages,
  type StepLog,
  savePromptEmbeddings,
  trainJob,
} from '@equipoise/iti-gen';
import type { RgbImage } from '@equipoise/models';
import {
  categoryName,
  findHeadshots,
  HEADSHOT_ATTRIBUTES,
  type HeadshotAttribute,
  writeReferences,
} from '@equipoise/tiny-world';
import { type Embedded, packed } from './model.js';

export interface ItiGenSettings {
  readonly prompt: string;
  readonly attributes: readonly HeadshotAttribute[];
  /** How tokens are learned; the showcase's folder is named by it, as by all settings. */
  readonly learning: Omit<Learning, 'prompt'>;
  readonly images: number;
  readonly steps: number;
  readonly guidance: number;
  readonly seed: number;
}

export interface ImageSetResult {
  readonly name: string;
  readonly balance: readonly AttributeBalance[];
  readonly similarity: number;
  readonly images: readonly RgbImage[];
}

export interface ItiGenResult {
  readonly before: ImageSetResult;
  readonly after: ImageSetResult;
  /** Frechet distance of CLIP features, after against before: how far the pictures themselves moved. */
  readonly frechet: number;
  readonly log: readonly StepLog[];
  readonly combinations: number;
}

/** Learns, generates and counts; everything is kept in `folder` and reused. */
export async function runItiGen(
  embedded: Embedded,
  folder: string,
  settings: ItiGenSettings,
  context: JobContext,
): Promise<ItiGenResult> {
  const { clip, pipeline } = embedded;
  const { prompt, attributes, learning, seed, steps, guidance, images: count } = settings;
  const references = join(folder, 'references');
  await writeReferences(references, attributes, { seed, perCategory: learning.references });
  const found = await findAttributes(references, attributes);
  const options = { ...learning, prompt, seed, saveEvery: 10 };
  const { tokens, log } = await trainJob(
    { folder: join(folder, 'train'), clip, attributes: found, options },
    context,
  );
  const prompts = await inclusivePrompts(tokens, clip.clip, clip.hash, clip.tokenizer);
  await savePromptEmbeddings(join(folder, 'prompt-embeds.safetensors'), prompts);
  const sampling = { steps, guidance, sampler: 'ddim' as const };
  const plain = await generateFromPrompts(
    { folder: join(folder, 'before'), pipeline, prompts: [prompt], count, seed, sampling, batch: 32 },
    context,
  );
  const inclusive = await generateImages(
    { folder: join(folder, 'after'), pipeline, prompts, count, seed, noise: 'own', sampling, batch: 32 },
    context,
  );
  const beforeImages = await readImages(plain.map(({ file }) => file));
  const afterImages = await readImages(inclusive.map(({ file }) => file));
  const features = await Promise.all([beforeImages, afterImages].map((set) => clipImageFeatures(clip, set)));
  const text = await clipTextFeatures(clip, [prompt]);
  const result = async (name: string, set: readonly RgbImage[], i: 0 | 1): Promise<ImageSetResult> => ({
    name,
    balance: await judgedBalance(embedded, set, attributes, seed),
    similarity: promptSimilarity(features[i] as (typeof features)[number], text),
    images: set,
  });
  return {
    before: await result('plain prompt', beforeImages, 0),
    after: await result('inclusive tokens', afterImages, 1),
    frechet: frechet(features[1] as (typeof features)[number], features[0] as (typeof features)[number]),
    log,
    combinations: prompts.combinations.length,
  };
}

async function judgedBalance(
  { judges }: Embedded,
  images: readonly RgbImage[],
  attributes: readonly HeadshotAttribute[],
  seed: number,
): Promise<AttributeBalance[]> {
  const faces = await findHeadshots(judges.headshot, packed(images));
  const classes = attributes.map((attribute) => ({
    attribute,
    categories: (HEADSHOT_ATTRIBUTES[attribute] as readonly (string | boolean)[]).map(categoryName),
  }));
  const labels = attributes.map((attribute) =>
    faces.map((face) => (HEADSHOT_ATTRIBUTES[attribute] as readonly unknown[]).indexOf(face[attribute])),
  );
  return balance(classes, labels, seed);
}
