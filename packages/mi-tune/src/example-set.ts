/** The fine-tuning set: the chosen candidates, made again to the end, as latents and text states with a picture each. */
import fs from 'node:fs/promises';
import path from 'node:path';
import {
  EquipoiseError,
  invalid,
  type JobContext,
  ProgressCounter,
  parseJson,
  prose,
  sha256Json,
  writeFileAtomic,
  writeJsonAtomic,
} from '@equipoise/core';
import { float32Source, openSafetensors, readFloat32, writeSafetensors } from '@equipoise/weights';
import * as tf from '@tensorflow/tfjs-core';
import { type SamplingOptions, sampleCandidates } from './candidates.js';
import { type DiffusionParts, encodePrompts } from './parts.js';
import type { SweepRow } from './sweep-folder.js';

export interface ExampleEntry {
  readonly prompt: string;
  readonly candidate: number;
  /** Score by which it was chosen; null for a real image without one. */
  readonly mi: number | null;
  /** Folder below the set's. */
  readonly folder: string;
}

export interface ExampleSet {
  readonly format: 1;
  /** Of the model, settings and choice: the same hash means the same set. */
  readonly hash: string;
  readonly examples: readonly ExampleEntry[];
}

/** Turns latents into PNG files; left out where no pictures are wanted. */
export type DecodeToPng = (latents: tf.Tensor4D) => Promise<Uint8Array[]>;

const MANIFEST = 'manifest.json';
const TENSORS = 'example.safetensors';

/**
 * Writes the set; the manifest comes last, so a folder with one is complete. An existing complete set of the same hash
 * is kept as it is.
 */
export async function buildSet(
  folder: string,
  parts: DiffusionParts,
  chosen: readonly SweepRow[],
  sampling: SamplingOptions,
  options: { batch: number; decode?: DecodeToPng },
  context: JobContext = {},
): Promise<ExampleSet> {
  const hash = sha256Json({
    model: parts.hash,
    sampling,
    chosen: chosen.map(({ prompt, candidate, mi }) => [prompt, candidate, mi]),
  });
  const existing = await readSet(folder).catch((error: unknown) => {
    if (error instanceof EquipoiseError && error.code === 'missing') return undefined;
    throw error;
  });
  if (existing?.hash === hash) return existing;
  if (existing !== undefined)
    throw invalid(folder, 'an empty folder or the same set', prose('a set made otherwise'), {
      code: 'conflict',
      hints: ['Choose another folder, or delete this one.'],
    });
  const progress = new ProgressCounter('fine-tuning set', context, { total: chosen.length, unit: 'example' });
  const examples: ExampleEntry[] = [];
  for (let start = 0; start < chosen.length; start += options.batch) {
    const rows = chosen.slice(start, start + options.batch);
    const { latents } = await sampleCandidates(parts, rows, sampling, true, { signal: context.signal });
    try {
      const pngs = await options.decode?.(latents);
      const states = encodePrompts(
        parts,
        rows.map(({ prompt }) => prompt),
      );
      for (const [i, row] of rows.entries()) {
        const entry = {
          prompt: row.prompt,
          candidate: row.candidate,
          mi: row.mi,
          folder: exampleFolder(start + i, row.prompt),
        };
        await writeExample(path.join(folder, entry.folder), latents, states, i, pngs?.[i]);
        examples.push(entry);
      }
      states.dispose();
    } finally {
      latents.dispose();
    }
    progress.advance(rows.length);
  }
  const set: ExampleSet = { format: 1, hash, examples };
  await writeJsonAtomic(path.join(folder, MANIFEST), set as never);
  return set;
}

function exampleFolder(index: number, prompt: string): string {
  const slug = prompt
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-|-$/g, '')
    .slice(0, 60);
  return `${String(index).padStart(6, '0')}-${slug}`;
}

/** Latents and text states in PyTorch's layouts, under the names of the published data sets. */
async function writeExample(
  folder: string,
  latents: tf.Tensor4D,
  states: tf.Tensor3D,
  index: number,
  png: Uint8Array | undefined,
): Promise<void> {
  await fs.mkdir(folder, { recursive: true });
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
