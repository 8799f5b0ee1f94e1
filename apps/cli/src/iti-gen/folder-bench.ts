/** Experiments on any Stable Diffusion and CLIP folder, with images of one's own and zero-shot judges. */
import path from 'node:path';
import { invalid, type JobContext, prose, sha256File, sha256Json } from '@equipoise/core';
import { loadPipeline } from '@equipoise/diffusion';
import {
  type Bench,
  type LoadedClip,
  loadClip,
  type QualityMeasure,
  readAttributes,
  readClassTexts,
  readWording,
  requireSameTextTower,
  zeroShotClassifiers,
} from '@equipoise/iti-gen';
import { hashFolder } from '@equipoise/weights';
import { openInceptionQuality } from './inception-quality.js';

export interface FolderBenchOptions {
  readonly model: string;
  readonly clip: string;
  readonly data: string;
  readonly classes: string;
  readonly judgeClip?: string | undefined;
  readonly words?: string | undefined;
  readonly inception?: string | undefined;
  readonly realImages?: string | undefined;
}

/** Hashes of all that decides what a pipeline draws from an embedding. */
export function hashPipeline(folder: string): Promise<string[]> {
  const parts = ['unet', 'vae', 'text_encoder', 'scheduler'];
  return Promise.all(parts.map((part) => hashFolder(path.join(folder, part))));
}

/** @param settings what else decides how pictures come out: engine, precision */
export async function openFolderBench(
  options: FolderBenchOptions,
  settings: object,
  context: JobContext,
): Promise<Bench> {
  const pipeline = await loadPipeline(options.model, context);
  const clip = await loadClip(options.clip, { otherwise: `${options.model}/tokenizer` });
  await requireSameTextTower(clip.clip, pipeline.parts.textEncoder);
  const judge: LoadedClip = options.judgeClip === undefined ? clip : await loadClip(options.judgeClip);
  const classes = await readClassTexts(options.classes);
  const wording = options.words === undefined ? {} : await readWording(options.words);
  const { inception, realImages } = options;
  const quality: QualityMeasure | null =
    inception === undefined || realImages === undefined
      ? null
      : await openInceptionQuality(inception, realImages, context);
  return {
    pipeline,
    clip,
    hash: sha256Json({
      model: await hashPipeline(options.model),
      clip: clip.hash,
      judge: judge.hash,
      classes,
      wording,
      inception: inception === undefined ? null : await sha256File(inception),
      realImages: realImages ?? null,
      settings,
    }),
    wording,
    references: (attributes) => readAttributes(options.data, attributes),
    classifiers(attributes) {
      const all = zeroShotClassifiers(judge, classes, context);
      return attributes.map((name) => {
        const own = all.find(({ attribute }) => attribute === name);
        if (own === undefined)
          throw invalid(options.classes, `texts for attribute ${name}`, prose('none'), { code: 'missing' });
        return own;
      });
    },
    quality: async () => quality,
  };
}
