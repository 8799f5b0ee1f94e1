/**
 * Experiments as cells: one method, on one set of attributes, with one seed. A cell learns, draws, judges and counts;
 * it owns a run folder, and one that is done is read back. Tokens and images that cells share are made once.
 */
import fs from 'node:fs/promises';
import path from 'node:path';
import {
  exists,
  type JobContext,
  type JsonValue,
  parseJson,
  Run,
  sha256Json,
  writeJsonAtomic,
} from '@equipoise/core';
import { fileName } from './attributes.js';
import type { Bench } from './bench.js';
import { inclusivePrompts, listCombinations } from './embeddings.js';
import { type Evaluation, evaluateImages } from './evaluate.js';
import { generateFromPrompts, generateImages, type Noise, readImages, type Sampling } from './generate.js';
import { type TrainJobOptions, type TrainResult, trainJob } from './train-job.js';
import { wordedPrompts } from './wording.js';

/** `hard` and `negated` prompts: see {@link wordedPrompts}. */
export const METHODS = ['vanilla', 'hard', 'negated', 'iti-gen'] as const;
export type Method = (typeof METHODS)[number];

/** How tokens are learned. */
export type Learning = Omit<TrainJobOptions, 'seed' | 'saveEvery'>;

export interface CellSpec {
  readonly method: Method;
  readonly attributes: readonly string[];
  /** Prompt the images are drawn from. */
  readonly prompt: string;
  /** Chooses and orders references, and the noise of the images. */
  readonly seed: number;
  readonly images: number;
  /** Where the method is ITI-GEN; its prompt may be another one ("train once for all"). */
  readonly learning?: Learning;
}

export interface CellResult {
  readonly spec: CellSpec;
  readonly evaluation: Evaluation;
  /** Images in order, relative to the laboratory's folder, with what each was asked to show. */
  readonly images: readonly { readonly file: string; readonly labels: Readonly<Record<string, string>> }[];
  /** Wall time of this cell; what other cells had made already is not in it. */
  readonly seconds: number;
}

export interface LaboratorySettings {
  readonly folder: string;
  readonly sampling: Sampling;
  /** Images sampled together. */
  readonly batch: number;
}

/** Image i of seed s starts from noise s * 2^20 + i: no two seeds share an image. */
const IMAGES_PER_SEED = 2 ** 20;
/** A share counted on pictures of few noises says little about all. */
const NOISE: Noise = 'own';

type DrawnImages = { file: string; labels: Readonly<Record<string, string>> }[];

export class Laboratory {
  constructor(
    readonly bench: Bench,
    readonly settings: LaboratorySettings,
  ) {}

  /** The tokens that a cell uses, learned once for all cells that need the same. */
  async learn(
    attributes: readonly string[],
    learning: Learning,
    seed: number,
    context: JobContext = {},
  ): Promise<TrainResult> {
    const { bench, settings } = this;
    const found = await bench.references(attributes, path.join(settings.folder, 'references'));
    const name = this.#name(['tokens', ...attributes, `seed${seed}`], { attributes, learning, seed });
    return trainJob(
      {
        folder: path.join(settings.folder, 'tokens', name),
        clip: bench.clip,
        attributes: found,
        options: { ...learning, seed, saveEvery: learning.epochs },
        featureCache: path.join(settings.folder, 'features'),
      },
      context,
    );
  }

  /** Runs a cell, or reads the result of one that is done. */
  async cell(spec: CellSpec, { signal, onProgress }: JobContext = {}): Promise<CellResult> {
    const { folder, sampling } = this.settings;
    const title = `${spec.method} ${spec.attributes.join(' x ')} seed ${spec.seed}`;
    const context: JobContext = {
      signal,
      onProgress: (event) => onProgress?.({ ...event, task: `${title}: ${event.task}` }),
    };
    const name = this.#name([spec.method, ...spec.attributes, `seed${spec.seed}`], {
      spec,
      sampling,
      noise: NOISE,
    });
    const file = path.join(folder, 'cells', name, 'cell.json');
    if (await exists(file)) return parseJson(await fs.readFile(file, 'utf8'), file) as CellResult;
    const run = await Run.open(path.dirname(file), {
      command: 'iti-gen cell',
      options: { ...spec, sampling } as unknown as Record<string, JsonValue>,
      seeds: { cell: spec.seed },
      inputs: { bench: this.bench.hash },
    });
    try {
      const start = performance.now();
      const images = await run.time('images', () => this.#draw(spec, context));
      const evaluation = await run.time('evaluation', () => this.#evaluate(spec, images, context));
      const result: CellResult = {
        spec,
        evaluation,
        images: images.map((image) => ({ ...image, file: path.relative(folder, image.file) })),
        seconds: (performance.now() - start) / 1000,
      };
      await writeJsonAtomic(file, finiteJson(result));
      await run.finish();
      // As a later start reads it, so that both give the same report.
      return parseJson(await fs.readFile(file, 'utf8'), file) as CellResult;
    } catch (error) {
      await run.fail(error);
      throw error;
    }
  }

  #name(words: readonly string[], identity: object): string {
    const hash = sha256Json({ ...identity, bench: this.bench.hash }).slice(0, 12);
    return `${fileName(words).slice(0, 80)}-${hash}`;
  }

  async #draw(spec: CellSpec, context: JobContext): Promise<DrawnImages> {
    const { bench, settings } = this;
    const { prompt, images: count } = spec;
    const job = {
      pipeline: bench.pipeline,
      count,
      seed: spec.seed * IMAGES_PER_SEED,
      noise: NOISE,
      sampling: settings.sampling,
      batch: settings.batch,
    };
    const folderFor = (what: object): string =>
      path.join(
        settings.folder,
        'images',
        this.#name([spec.method, `seed${spec.seed}`], {
          ...what,
          count,
          settings: job.sampling,
          seed: spec.seed,
          noise: job.noise,
        }),
      );
    if (spec.method === 'iti-gen') {
      const learning = requireLearning(spec);
      const { tokens } = await this.learn(spec.attributes, learning, spec.seed, context);
      const { clip, hash, tokenizer } = bench.clip;
      const prompts = await inclusivePrompts(tokens, clip, hash, tokenizer, prompt);
      const folder = folderFor({ learning, attributes: spec.attributes, prompt });
      const drawn = await generateImages({ ...job, folder, prompts }, context);
      return drawn.map(({ file, combination }) => ({ file, labels: combination.labels }));
    }
    if (spec.method === 'vanilla') {
      const drawn = await generateFromPrompts(
        { ...job, folder: folderFor({ prompt }), prompts: [prompt] },
        context,
      );
      return drawn.map(({ file }) => ({ file, labels: {} }));
    }
    const classes = bench
      .classifiers(spec.attributes)
      .map(({ attribute, categories }) => ({ name: attribute, categories }));
    const prompts = wordedPrompts(prompt, bench.wording, classes, spec.method);
    const combinations = listCombinations({ attributes: classes });
    const drawn = await generateFromPrompts({ ...job, folder: folderFor({ prompts }), prompts }, context);
    return drawn.map(({ file, prompt: index }) => ({ file, labels: combinations[index]?.labels ?? {} }));
  }

  async #evaluate(spec: CellSpec, drawn: DrawnImages, context: JobContext): Promise<Evaluation> {
    const { bench } = this;
    const files = drawn.map(({ file }) => file);
    return evaluateImages(
      {
        images: await readImages(files),
        files,
        classifiers: bench.classifiers(spec.attributes),
        intended: drawn.map(({ labels }) => labels),
        quality: await bench.quality(spec.attributes),
        similarity: { clip: bench.clip, prompt: spec.prompt },
        seed: spec.seed,
      },
      context,
    );
  }
}

function requireLearning(spec: CellSpec): Learning {
  if (spec.learning === undefined) throw new TypeError('an ITI-GEN cell says how its tokens are learned');
  return spec.learning;
}

/** JSON has no infinities: a number that could not be measured becomes null. */
export function finiteJson(value: unknown): JsonValue {
  return JSON.parse(JSON.stringify(value)) as JsonValue;
}
