/** What every stage gets: the run folder, the recipe, the data, and the results of the stages before it. */
import { mkdir } from 'node:fs/promises';
import {
  canonicalJson,
  EquipoiseError,
  exists,
  type JobContext,
  type JsonValue,
  type Run,
} from '@equipoise/core';
import { ClipTokenizer, type NamedTensor } from '@equipoise/models';
import { type Dataset, loadDataset } from '../data/dataset.js';
import { stateFromFile } from '../data/state-dict.js';
import { writeTensorFile } from '../data/tensor-file.js';
import { TEXT_LENGTH, type VocabularyIds } from '../model/architecture.js';
import type { WorldKind } from '../world/attributes.js';
import type { Split } from '../world/sample.js';
import type { LoopOptions, LoopResult } from './loop.js';
import type { Recipe, Stage } from './recipe.js';
import type { HostTensor } from './trained-weights.js';

export interface StageOutcome {
  readonly finished: boolean;
  readonly measurements: Readonly<Record<string, number>>;
}

export class StageContext {
  constructor(
    readonly run: Run,
    readonly recipe: Recipe,
    /** Folder of rendered pictures; may be shared between runs. */
    readonly dataFolder: string,
    readonly job: JobContext,
    readonly deadline?: number,
  ) {}

  /** The pictures of a split; of one world only, as many as the recipe says, where `kind` is given. */
  async dataset(split: keyof Recipe['pictures'] & Split, kind?: WorldKind): Promise<Dataset> {
    const { seed, pictures } = this.recipe;
    return loadDataset(this.dataFolder, { seed, split, count: pictures[split], kind }, this.job);
  }

  /** Folder of a stage's own files, created when missing. */
  async folder(stage: string): Promise<string> {
    const path = this.run.path(stage);
    await mkdir(path, { recursive: true });
    return path;
  }

  async loopOptions(stage: string, checkpointEvery: number): Promise<LoopOptions> {
    return { ...this.job, folder: await this.folder(stage), checkpointEvery, deadline: this.deadline };
  }

  /** What a checkpoint of a stage is bound to. */
  identity(stage: Exclude<Stage, 'vocab'>): string {
    const { seed, pictures } = this.recipe;
    const { checkpointEvery: _, ...settings } = this.recipe[stage];
    const count = stage === 'judges' ? pictures.judge : pictures.train;
    return canonicalJson({ seed, pictures: count, settings } as unknown as JsonValue);
  }

  async tokenizer(): Promise<ClipTokenizer> {
    const folder = this.run.path('vocab');
    await this.#require('vocab', `${folder}/vocab.json`);
    return ClipTokenizer.fromFolder(folder);
  }

  async vocabularyIds(): Promise<VocabularyIds> {
    const tokenizer = await this.tokenizer();
    return { size: tokenizer.vocabularySize, start: tokenizer.bosId, end: tokenizer.eosId };
  }

  /** Where a stage leaves its finished weights. */
  resultPath(stage: Stage, name: string): string {
    return this.run.path(stage, `${name}.safetensors`);
  }

  /** Writes a model's finished weights with what later stages must know about them. */
  async saveResult(
    stage: Stage,
    name: string,
    state: readonly NamedTensor[],
    metadata: Readonly<Record<string, string>> = {},
  ): Promise<void> {
    const tensors: HostTensor[] = [];
    for (const tensor of state) {
      tensors.push({ name: tensor.name, shape: tensor.shape, values: (await tensor.read()).slice() });
    }
    await writeTensorFile(this.resultPath(stage, name), tensors, { format: 'pt', ...metadata });
  }

  /** The weights an earlier stage left. */
  async loadResult(stage: Stage, name: string): Promise<Awaited<ReturnType<typeof stateFromFile>>> {
    const path = this.resultPath(stage, name);
    await this.#require(stage, path);
    return stateFromFile(path);
  }

  async #require(stage: Stage, path: string): Promise<void> {
    if (await exists(path)) return;
    throw new EquipoiseError(
      'missing',
      `${path}: expected the result of stage ${stage}, which has not been run`,
      {
        hints: [`Run stage ${stage} first, in the same run folder.`],
      },
    );
  }
}

/** Token ids of texts, one row each. */
export function tokenRows(tokenizer: ClipTokenizer, texts: readonly string[]): Int32Array[] {
  const { ids } = tokenizer.encodeBatch(texts, { maxLength: TEXT_LENGTH });
  return texts.map((_, index) => ids.subarray(index * TEXT_LENGTH, (index + 1) * TEXT_LENGTH));
}

/** A loop's result as a stage's outcome. */
export function outcomeOf(result: LoopResult): StageOutcome {
  return { finished: result.finished, measurements: result.measurements };
}
