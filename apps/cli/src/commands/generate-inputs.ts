/** What `equipoise generate` draws: prompts from the command line or a file, or embeddings of prompts from a file. */
import { basename } from 'node:path';
import { EquipoiseError, invalid, nearest, parseJson, prose, sha256File } from '@equipoise/core';
import type { GenerateInputs } from '@equipoise/diffusion';
import { readPrompts } from '@equipoise/mi-tune';
import { openSafetensors, readFloat32, type SafetensorsFile } from '@equipoise/weights';
import * as tf from '@tensorflow/tfjs-core';

/** Rows to draw; each image is one of them. */
export interface PromptRows {
  readonly count: number;
  /** What a row is called in file names. */
  label(row: number): string;
  /** What a PNG says about its row, besides the settings of the pipeline. */
  describe(row: number): Readonly<Record<string, unknown>>;
  /** The pipeline's inputs for some rows, in order; `dispose` frees them. */
  inputs(rows: readonly number[]): { inputs: GenerateInputs; dispose(): void };
}

export interface PromptOptions {
  readonly prompt: readonly string[];
  readonly promptsFile?: string | undefined;
  readonly negativePrompt?: string | undefined;
  readonly promptEmbeds?: string | undefined;
}

/** @throws EquipoiseError unless exactly one source of prompts is given, or when its file does not serve */
export async function readRows(options: PromptOptions, note: (line: string) => void): Promise<PromptRows> {
  const { prompt, promptsFile, promptEmbeds, negativePrompt } = options;
  const given = [
    prompt.length > 0 && 'prompts',
    promptsFile !== undefined && '--prompts-file',
    promptEmbeds !== undefined && '--prompt-embeds',
  ].filter((name) => name !== false);
  if (given.length !== 1) {
    throw invalid(
      'prompt',
      'prompts, --prompts-file or --prompt-embeds',
      prose(given.length === 0 ? 'none of them' : given.join(' and ')),
    );
  }
  if (promptEmbeds !== undefined) return EmbeddingRows.open(promptEmbeds, negativePrompt);
  if (promptsFile === undefined) return new TextRows(prompt, negativePrompt);
  const { prompts, duplicates } = await readPrompts(promptsFile);
  if (duplicates > 0)
    note(
      `${promptsFile}: ${duplicates} repeated ${duplicates === 1 ? 'prompt is' : 'prompts are'} drawn once`,
    );
  return new TextRows(prompts, negativePrompt);
}

const negativeInput = (negativePrompt: string | undefined): Pick<GenerateInputs, 'negativePrompt'> =>
  negativePrompt === undefined ? {} : { negativePrompt };

class TextRows implements PromptRows {
  constructor(
    readonly prompts: readonly string[],
    readonly negativePrompt: string | undefined,
  ) {}

  get count(): number {
    return this.prompts.length;
  }

  label(row: number): string {
    return this.prompts[row] as string;
  }

  describe(): Record<string, unknown> {
    return {};
  }

  inputs(rows: readonly number[]): { inputs: GenerateInputs; dispose(): void } {
    const prompt = rows.map((row) => this.prompts[row] as string);
    return { inputs: { prompt, ...negativeInput(this.negativePrompt) }, dispose: () => undefined };
  }
}

/** Tensors of an embeddings file, and the pipeline's input each becomes. */
const TENSORS = {
  prompt_embeds: 'promptEmbeds',
  negative_prompt_embeds: 'negativePromptEmbeds',
  pooled_prompt_embeds: 'pooledPromptEmbeds',
  negative_pooled_prompt_embeds: 'negativePooledPromptEmbeds',
} as const;
type TensorName = keyof typeof TENSORS;

interface Block {
  readonly values: Float32Array;
  readonly shape: readonly number[];
}

/** The metadata key under which inclusive prompts name their rows. */
const ROWS_METADATA = 'equipoise_prompts';

class EmbeddingRows implements PromptRows {
  private constructor(
    readonly path: string,
    readonly hash: string,
    readonly blocks: ReadonlyMap<TensorName, Block>,
    readonly labels: readonly Readonly<Record<string, string>>[] | null,
    readonly prompt: string | null,
    readonly negativePrompt: string | undefined,
  ) {}

  static async open(path: string, negativePrompt: string | undefined): Promise<EmbeddingRows> {
    await using file = await openSafetensors(path);
    const blocks = await readBlocks(file);
    if (negativePrompt !== undefined && blocks.has('negative_prompt_embeds')) {
      throw invalid('--negative-prompt', `nothing, for ${path} holds negative_prompt_embeds`, negativePrompt);
    }
    const { prompt, labels } = rowLabels(file, (blocks.get('prompt_embeds') as Block).shape[0] as number);
    return new EmbeddingRows(path, await sha256File(path), blocks, labels, prompt, negativePrompt);
  }

  get count(): number {
    return this.blocks.get('prompt_embeds')?.shape[0] as number;
  }

  label(row: number): string {
    const own = this.labels?.[row];
    return own === undefined ? '' : Object.entries(own).flat().join('-');
  }

  describe(row: number): Record<string, unknown> {
    const labels = this.labels?.[row];
    return {
      promptEmbeds: { file: basename(this.path), sha256: this.hash, row },
      ...(this.prompt !== null && { prompt: this.prompt }),
      ...(labels !== undefined && { labels }),
    };
  }

  inputs(rows: readonly number[]): { inputs: GenerateInputs; dispose(): void } {
    const tensors = Object.fromEntries(
      [...this.blocks].map(([name, block]) => [TENSORS[name], pick(block, rows)]),
    );
    return {
      inputs: { ...tensors, ...negativeInput(this.negativePrompt) },
      dispose: () => tf.dispose(Object.values(tensors)),
    };
  }
}

/** Rows of a block; a block of one row serves all. */
function pick({ values, shape }: Block, rows: readonly number[]): tf.Tensor {
  const [count = 0, ...rest] = shape;
  const size = values.length / count;
  const out = new Float32Array(rows.length * size);
  for (const [i, row] of rows.entries()) {
    const from = (count === 1 ? 0 : row) * size;
    out.set(values.subarray(from, from + size), i * size);
  }
  return tf.tensor(out, [rows.length, ...rest]);
}

async function readBlocks(file: SafetensorsFile): Promise<Map<TensorName, Block>> {
  const blocks = new Map<TensorName, Block>();
  for (const [name, source] of file.tensors) {
    const where = `${file.path}: ${name}`;
    if (!Object.hasOwn(TENSORS, name)) {
      const closest = nearest(name, Object.keys(TENSORS));
      throw invalid(
        where,
        `one of ${Object.keys(TENSORS).join(', ')}`,
        prose(`another tensor${closest === undefined ? '' : `; nearest: ${closest}`}`),
        { code: 'corrupt' },
      );
    }
    const rank = name.includes('pooled') ? 2 : 3;
    if (source.shape.length !== rank || source.shape.includes(0)) {
      throw invalid(
        where,
        rank === 3 ? 'shape [prompts, positions, width]' : 'shape [prompts, width]',
        source.shape,
        { code: 'corrupt' },
      );
    }
    const values = await readFloat32(source);
    const bad = values.findIndex((value) => !Number.isFinite(value));
    if (bad >= 0) throw invalid(`${where}[${bad}]`, 'a finite number', values[bad], { code: 'numeric' });
    blocks.set(name as TensorName, { values, shape: source.shape });
  }
  const main = blocks.get('prompt_embeds');
  if (main === undefined)
    throw new EquipoiseError('missing', `${file.path}: expected a tensor prompt_embeds, got none`);
  for (const [name, { shape }] of blocks) {
    if (shape[0] === main.shape[0] || (name.startsWith('negative') && shape[0] === 1)) continue;
    throw invalid(`${file.path}: ${name}`, `${main.shape[0]} rows, one for each of prompt_embeds`, shape[0], {
      code: 'corrupt',
    });
  }
  return blocks;
}

/** What the metadata says about the rows, where it does. */
function rowLabels(
  file: SafetensorsFile,
  count: number,
): { prompt: string | null; labels: readonly Record<string, string>[] | null } {
  const text = file.metadata.get(ROWS_METADATA);
  if (text === undefined) return { prompt: null, labels: null };
  const where = `${file.path}: metadata ${ROWS_METADATA}`;
  const { prompt = null, combinations } = (parseJson(text, where) ?? {}) as {
    prompt?: unknown;
    combinations?: unknown;
  };
  const isLabels = (value: unknown): boolean =>
    typeof value === 'object' &&
    value !== null &&
    Object.values(value).every((entry) => typeof entry === 'string');
  if (!Array.isArray(combinations) || combinations.length !== count || !combinations.every(isLabels)) {
    throw invalid(where, `${count} combinations, one for each row`, combinations, { code: 'corrupt' });
  }
  return {
    prompt: typeof prompt === 'string' ? prompt : null,
    labels: combinations as Record<string, string>[],
  };
}
