/** Pipelines from and to folders that diffusers reads and writes. */
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import {
  invalid,
  type JobContext,
  type JsonValue,
  makeFolder,
  prose,
  throwIfCancelled,
} from '@equipoise/core';
import {
  AutoencoderKL,
  CLIPTextModel,
  CLIPTextModelWithProjection,
  ClipTokenizer,
  type ConfiguredModel,
  type Model,
  type ModelClass,
  UNet2DConditionModel,
  type WeightStorage,
} from '@equipoise/models';
import {
  type ComponentEntry,
  type ComponentFolder,
  castSource,
  type FloatType,
  type ModelFolder,
  openFolder,
  type SaveOptions,
  saveModel,
  savePipelineIndex,
  saveSchedulerConfig,
  withWeightsType,
} from '@equipoise/weights';
import { parseSchedulerConfig } from '../scheduler-config.js';
import type { PipelineParts } from './inputs.js';
import { TextToImagePipeline, unsupportedPipeline } from './pipeline.js';

export interface LoadPipelineOptions extends JobContext {
  /** Weights variant, such as fp16. */
  readonly variant?: string;
  /** How frozen matrices are kept; the engine decides when this is left out. */
  readonly storage?: WeightStorage;
  /** Told about parts that were skipped, fallbacks, ignored settings. */
  readonly onNotice?: (notice: string) => void;
}

/** Parts that play no role in making an image; their absence is worth a word when they are there. */
const skippedParts = ['safety_checker', 'feature_extractor', 'image_encoder'];
const knownParts = ['unet', 'vae', 'text_encoder', 'text_encoder_2', 'tokenizer', 'tokenizer_2', 'scheduler'];

function checkComponents(folder: ModelFolder, onNotice: LoadPipelineOptions['onNotice']): void {
  const { className, path, components } = folder;
  const known = className === 'StableDiffusionPipeline' || className === 'StableDiffusionXLPipeline';
  if (folder.kind !== 'pipeline' || !known) throw unsupportedPipeline(path, className);
  for (const name of components.keys()) {
    if (skippedParts.includes(name)) onNotice?.(`${path}: ${name} is not used`);
    else if (!knownParts.includes(name)) {
      throw invalid(
        `${path}: component ${name}`,
        `one of ${[...knownParts, ...skippedParts].join(', ')}`,
        name,
        {
          code: 'unsupported',
        },
      );
    }
  }
}

/** Loads the parts of a pipeline one after the other. */
class PartLoader {
  readonly configs: Record<string, Readonly<Record<string, JsonValue>>> = {};
  readonly #loaded: Model[] = [];

  constructor(
    readonly folder: ModelFolder,
    readonly options: LoadPipelineOptions,
  ) {}

  async component(name: string): Promise<ComponentFolder> {
    throwIfCancelled(this.options.signal, `load ${name}`);
    const component = await this.folder.component(name);
    this.configs[name] = await component.savedConfig();
    return component;
  }

  /** @param aliases other classes whose configs and weights are read as this one's */
  async model<M extends ConfiguredModel<unknown>>(
    name: string,
    modelClass: ModelClass<M> & Pick<typeof ConfiguredModel, 'load'>,
    ...aliases: string[]
  ): Promise<M> {
    const { storage, onProgress, onNotice, signal } = this.options;
    onProgress?.({ task: `load ${name}`, done: 0, unit: 'tensor' });
    const component = await this.component(name);
    const { config, where } = component.modelConfig();
    const known = [modelClass.name, ...aliases];
    const { className = modelClass.name } = component;
    if (!known.includes(className))
      throw invalid(`${this.folder.path}: ${name}`, known.join(' or '), prose(className), {
        code: 'unsupported',
      });
    const state = await component.openWeights();
    try {
      const model = await modelClass.load(config, state, {
        where,
        ...(storage !== undefined && { storage }),
        onProgress: (done, total) => {
          throwIfCancelled(signal, `load ${name}`);
          onProgress?.({ task: `load ${name}`, done, total, unit: 'tensor' });
        },
      });
      this.#loaded.push(model);
      for (const warning of model.warnings) onNotice?.(warning);
      return model;
    } finally {
      await state.close();
    }
  }

  async tokenizer(name: string): Promise<ClipTokenizer> {
    return ClipTokenizer.fromFolder((await this.component(name)).path);
  }

  dispose(): void {
    for (const model of this.#loaded) model.dispose();
  }
}

async function loadParts(loader: PartLoader): Promise<PipelineParts> {
  const xl = loader.folder.className === 'StableDiffusionXLPipeline';
  const { config: scheduler, path } = await loader.component('scheduler');
  // Before the weights, which take longer.
  parseSchedulerConfig(scheduler, { source: join(path, 'scheduler_config.json') });
  const parts = {
    scheduler,
    tokenizer: await loader.tokenizer('tokenizer'),
    textEncoder: await loader.model('text_encoder', CLIPTextModel, CLIPTextModelWithProjection.name),
    ...(xl && {
      tokenizer2: await loader.tokenizer('tokenizer_2'),
      textEncoder2: await loader.model('text_encoder_2', CLIPTextModelWithProjection),
    }),
    unet: await loader.model('unet', UNet2DConditionModel),
    vae: await loader.model('vae', AutoencoderKL),
  };
  return { ...parts, configs: loader.configs, settings: loader.folder.config };
}

/**
 * Loads a diffusers pipeline folder.
 * @throws EquipoiseError naming the folder and the part that is missing, damaged or not supported
 */
export async function loadPipeline(
  path: string,
  options: LoadPipelineOptions = {},
): Promise<TextToImagePipeline> {
  const { variant, onNotice } = options;
  const folder = await openFolder(path, variant === undefined ? {} : { variant });
  checkComponents(folder, onNotice);
  const loader = new PartLoader(folder, options);
  try {
    const pipeline = new TextToImagePipeline(await loadParts(loader));
    const { ignored, corrections } = pipeline.scheduler;
    for (const key of ignored) onNotice?.(`${path}: scheduler setting ${key} has no effect`);
    for (const correction of corrections) onNotice?.(`${path}: scheduler: ${correction}, as diffusers does`);
    for (const notice of folder.notices) onNotice?.(notice);
    return pipeline;
  } catch (error) {
    loader.dispose();
    throw error;
  }
}

export interface SavePipelineOptions extends JobContext {
  /** Type of the stored weights; default F32. */
  readonly dtype?: FloatType;
  /** Variant in the file names, such as fp16. */
  readonly variant?: string;
  /** Write into a folder that holds files already. Default false. */
  readonly overwrite?: boolean;
}

async function prepareFolder(folder: string, overwrite: boolean): Promise<void> {
  await makeFolder(folder);
  const names = await readdir(folder);
  if (names.length === 0) return;
  if (!overwrite) {
    throw invalid(folder, 'an empty or new folder', prose(`${names.length} entries`), {
      code: 'conflict',
      hints: ['Allow overwriting, or choose another folder.'],
    });
  }
  // Without its index the folder is no pipeline: an interrupted save cannot pass for a whole one.
  await rm(join(folder, 'model_index.json'), { force: true });
}

/** A part's config for saving. */
function savedConfig(
  parts: PipelineParts,
  name: string,
  library: 'diffusers' | 'transformers',
  dtype: FloatType,
): Record<string, JsonValue> {
  const config = parts.configs[name];
  if (config === undefined) throw invalid(`configs: ${name}`, "the part's config.json", undefined);
  return withWeightsType(config, library, dtype);
}

async function saveParts(folder: string, parts: PipelineParts, options: SavePipelineOptions): Promise<void> {
  const { dtype = 'F32', variant, signal } = options;
  const saveOptions: SaveOptions = {
    ...(variant !== undefined && { variant }),
    ...(signal !== undefined && { signal }),
  };
  const save = async (name: string, library: 'diffusers' | 'transformers', model: Model): Promise<void> => {
    const sources = model.tensorSources().map((source) => castSource(source, dtype));
    const config = savedConfig(parts, name, library, dtype);
    await saveModel(join(folder, name), library, config, sources, saveOptions);
  };
  await save('unet', 'diffusers', parts.unet);
  await save('vae', 'diffusers', parts.vae);
  await save('text_encoder', 'transformers', parts.textEncoder);
  await parts.tokenizer.save(join(folder, 'tokenizer'));
  if (parts.textEncoder2 !== undefined) await save('text_encoder_2', 'transformers', parts.textEncoder2);
  await parts.tokenizer2?.save(join(folder, 'tokenizer_2'));
}

/**
 * Saves a pipeline as a folder that diffusers and this package load. Every file is written atomically and
 * model_index.json comes last.
 */
export async function savePipeline(
  pipeline: TextToImagePipeline,
  folder: string,
  options: SavePipelineOptions = {},
): Promise<void> {
  const { parts, isXl, className } = pipeline;
  await prepareFolder(folder, options.overwrite ?? false);
  await saveParts(folder, parts, options);
  const scheduler = parts.scheduler as Record<string, JsonValue>;
  await saveSchedulerConfig(join(folder, 'scheduler'), scheduler);
  const row = (library: string, name: string): ComponentEntry => ({ library, className: name });
  const components: Record<string, ComponentEntry | null> = {
    vae: row('diffusers', 'AutoencoderKL'),
    text_encoder: row('transformers', 'CLIPTextModel'),
    tokenizer: row('transformers', 'CLIPTokenizer'),
    unet: row('diffusers', 'UNet2DConditionModel'),
    scheduler: row('diffusers', pipeline.scheduler.config.className),
    feature_extractor: null,
    image_encoder: null,
    ...(isXl
      ? {
          text_encoder_2: row('transformers', 'CLIPTextModelWithProjection'),
          tokenizer_2: row('transformers', 'CLIPTokenizer'),
        }
      : { safety_checker: null }),
  };
  const settings = isXl
    ? { force_zeros_for_empty_prompt: parts.settings?.['force_zeros_for_empty_prompt'] !== false }
    : { requires_safety_checker: false };
  await savePipelineIndex(folder, className, components, settings);
}
