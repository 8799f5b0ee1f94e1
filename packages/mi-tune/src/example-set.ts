/** The fine-tuning set: the chosen candidates, made again to the end, as latents and text states with a picture each. */
import fs from 'node:fs/promises';
import path from 'node:path';
import {
  EquipoiseError,
  invalid,
  type JobContext,
  makeFolder,
  ProgressCounter,
  parseJson,
  prose,
  sha256Json,
  writeFileAtomic,
  writeJsonAtomic,
} from '@equipoise/core';
import { encodePng } from '@equipoise/diffusion';
import { decodeImage } from '@equipoise/models';
import { float32Source, openSafetensors, readFloat32, writeSafetensors } from '@equipoise/weights';
import * as tf from '@tensorflow/tfjs-core';
import { type SamplingOptions, sampleCandidates } from './candidates.js';
import { type DiffusionParts, encodePrompts } from './parts.js';
import { type Decode, type Encode, slug } from './pictures.js';
import type { RealImage } from './real-images.js';
import type { SweepRow } from './sweep-folder.js';

export interface ExampleEntry {
  readonly prompt: string;
  /** Candidate number; null for a real image. */
  readonly candidate: number | null;
  /** Point-wise MI with its prompt: summed while sampling, or estimated for a real image. */
  readonly mi: number;
  /** File name of a real image. */
  readonly real?: string;
  /** Folder below the set's. */
  readonly folder: string;
}

export interface ExampleSet {
  readonly format: 1;
  /** Of the model, settings and choice: the same hash means the same set. */
  readonly hash: string;
  readonly examples: readonly ExampleEntry[];
}

/** What goes into a set. */
export interface SetContents {
  /** Candidates of the model, made again to the end. */
  readonly chosen: readonly Pick<SweepRow, 'prompt' | 'candidate' | 'mi'>[];
  /** Real pictures beside them. */
  readonly real?: readonly RealImage[];
}

export interface SetOptions {
  /** Examples made together. */
  readonly batch: number;
  /** Writes a picture with each example. */
  readonly decode?: Decode | undefined;
  /** Needed for real pictures. */
  readonly encode?: Encode | undefined;
  /** Hash of the adapter on the model; '' for none. */
  readonly adapter?: string;
}

const MANIFEST = 'manifest.json';
const TENSORS = 'example.safetensors';

/**
 * Writes the set; the manifest comes last, so a folder with one is complete. An existing complete set of the same hash
 * is kept as it is.
 */
export async function buildSet(
  folder: string,
  parts: DiffusionParts,
  contents: SetContents,
  sampling: SamplingOptions,
  options: SetOptions,
  context: JobContext = {},
): Promise<ExampleSet> {
  const { chosen, real = [] } = contents;
  const hash = setHash(parts, contents, sampling, options.adapter ?? '');
  const existing = await existingSet(folder, hash);
  if (existing !== undefined) return existing;
  const total = chosen.length + real.length;
  if (total === 0) throw invalid('fine-tuning set', 'at least one example', total);
  const progress = new ProgressCounter('fine-tuning set', context, { total, unit: 'example' });
  const examples: ExampleEntry[] = [];
  const add = async (
    entries: readonly Omit<ExampleEntry, 'folder'>[],
    latents: tf.Tensor4D,
  ): Promise<void> => {
    const states = encodePrompts(
      parts,
      entries.map(({ prompt }) => prompt),
    );
    try {
      const images = await options.decode?.(latents);
      for (const [i, entry] of entries.entries()) {
        const name = exampleFolder(examples.length, entry.prompt);
        const image = images?.[i];
        await writeExample(path.join(folder, name), latents, states, i, image && (await encodePng(image)));
        examples.push({ ...entry, folder: name });
      }
    } finally {
      tf.dispose([states, latents]);
    }
    progress.advance(entries.length);
  };
  for (let start = 0; start < chosen.length; start += options.batch) {
    const rows = chosen.slice(start, start + options.batch);
    const { latents } = await sampleCandidates(parts, rows, sampling, true, { signal: context.signal });
    await add(
      rows.map(({ prompt, candidate, mi }) => ({ prompt, candidate, mi })),
      latents,
    );
  }
  for (const { prompt, file, mi } of real) {
    if (options.encode === undefined) throw invalid('encode', 'an encoder for real pictures', options.encode);
    const latents = options.encode(await decodeImage(file), file);
    await add([{ prompt, candidate: null, mi, real: path.basename(file) }], latents);
  }
  const set: ExampleSet = { format: 1, hash, examples };
  await writeJsonAtomic(path.join(folder, MANIFEST), set as never);
  return set;
}

/**
 * The set of that hash, if the folder holds it.
 *
 * @throws EquipoiseError `conflict` when it holds another one
 */
async function existingSet(folder: string, hash: string): Promise<ExampleSet | undefined> {
  const set = await readSet(folder).catch((error: unknown) => {
    if (error instanceof EquipoiseError && error.code === 'missing') return undefined;
    throw error;
  });
  if (set === undefined || set.hash === hash) return set;
  throw invalid(folder, 'an empty folder or the same set', prose('a set made otherwise'), {
    code: 'conflict',
    hints: ['Choose another folder, or delete this one.'],
  });
}

function setHash(
  parts: DiffusionParts,
  { chosen, real = [] }: SetContents,
  sampling: SamplingOptions,
  adapter: string,
): string {
  return sha256Json({
    model: parts.hash,
    adapter,
    sampling,
    chosen: chosen.map(({ prompt, candidate, mi }) => [prompt, candidate, mi]),
    real: real.map(({ prompt, hash, mi }) => [prompt, hash, mi]),
    // Candidates stay latents: only real pictures are encoded.
    ...(real.length > 0 && { vae: parts.vaeHash }),
  });
}

function exampleFolder(index: number, prompt: string): string {
  return `${String(index).padStart(6, '0')}-${slug(prompt)}`;
}

/** Latents and text states in PyTorch's layouts, under the names of the published data sets. */
async function writeExample(
  folder: string,
  latents: tf.Tensor4D,
  states: tf.Tensor3D,
  index: number,
  png: Uint8Array | undefined,
): Promise<void> {
  await makeFolder(folder);
  const [own, text] = tf.tidy(
    () =>
      [
        tf.transpose(tf.slice(latents, [index, 0, 0, 0], [1, -1, -1, -1]), [0, 3, 1, 2]),
        tf.slice(states, [index, 0, 0], [1, -1, -1]),
      ] as const,
  );
  const tensors = [
    float32Source('latents', own.shape, Float32Array.from(await own.data())),
    float32Source('prompt_embeds', text.shape, Float32Array.from(await text.data())),
  ];
  tf.dispose([own, text]);
  await writeSafetensors(path.join(folder, TENSORS), tensors);
  if (png !== undefined) await writeFileAtomic(path.join(folder, 'image.png'), png);
}

/** @throws EquipoiseError `missing` when the folder holds no complete set */
export async function readSet(folder: string): Promise<ExampleSet> {
  const file = path.join(folder, MANIFEST);
  const text = await fs.readFile(file, 'utf8').catch((cause: unknown) => {
    throw new EquipoiseError('missing', `${folder}: expected a fine-tuning set (${MANIFEST})`, { cause });
  });
  const set = parseJson(text, file) as ExampleSet;
  if (set.format !== 1 || !Array.isArray(set.examples))
    throw invalid(file, 'a fine-tuning set of format 1', set.format, { code: 'corrupt' });
  return set;
}

/** An example in the layouts the models take. */
export interface LoadedExample {
  readonly prompt: string;
  /** [h, w, c] row-major, scaled. */
  readonly latents: Float32Array;
  /** [L, C] row-major. */
  readonly states: Float32Array;
}

/** Reads all examples of a set. */
export async function loadExamples(
  folder: string,
  { latentShape: [h, w, c] }: Pick<DiffusionParts, 'latentShape'>,
): Promise<LoadedExample[]> {
  const set = await readSet(folder);
  return Promise.all(
    set.examples.map(async ({ prompt, folder: name }) => {
      const file = await openSafetensors(path.join(folder, name, TENSORS));
      try {
        const source = file.get('latents');
        if (source.shape.join() !== [1, c, h, w].join())
          throw invalid(`${file.path}: latents`, `[1, ${c}, ${h}, ${w}]`, source.shape, { code: 'conflict' });
        const [planar, states] = [await readFloat32(source), await readFloat32(file.get('prompt_embeds'))];
        const latents = Float32Array.from(
          { length: planar.length },
          (_, i) => planar[(i % c) * h * w + Math.floor(i / c)] as number,
        );
        return { prompt, latents, states };
      } finally {
        await file.close();
      }
    }),
  );
}
