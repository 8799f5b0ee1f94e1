/** Writing folders that diffusers and transformers load. */
import { join } from 'node:path';
import { type JsonValue, writeJsonAtomic } from '@equipoise/core';
import type { FloatType } from './convert.js';
import type { ComponentEntry } from './folder.js';
import { withPythonFloats } from './python-floats.js';
import { type SaveOptions, saveWeights } from './sharded.js';
import type { TensorSource } from './tensor-source.js';

type Config = { readonly [key: string]: JsonValue | undefined };

/**
 * Saves one model: weights under the name its library looks for, then `config.json`, which marks it complete.
 *
 * @param library decides the file names: `diffusion_pytorch_model` or `model`
 * @param config as the library's own (`_class_name` or `architectures` included); whole numbers in fields that
 * Python types as float are written as floats
 * @returns the names of the files written
 */
export async function saveModel(
  folder: string,
  library: 'diffusers' | 'transformers',
  config: Config,
  sources: readonly TensorSource[],
  options: SaveOptions = {},
): Promise<string[]> {
  const names = await saveWeights(folder, weightsBase(library), sources, options);
  await writeJsonAtomic(join(folder, 'config.json'), withPythonFloats(config));
  return [...names, 'config.json'];
}

/** What a library calls the files of a model's weights. */
export function weightsBase(library: 'diffusers' | 'transformers'): string {
  return library === 'diffusers' ? 'diffusion_pytorch_model' : 'model';
}

const PYTHON_TYPES: Readonly<Record<FloatType, string>> = {
  F32: 'float32',
  F16: 'float16',
  BF16: 'bfloat16',
};

/**
 * A config for weights of a type. transformers loads weights in the type its config names, whatever the file holds, so
 * that must be the type of this save and not of the one the model came from; diffusers' configs name none.
 */
export function withWeightsType(
  config: Readonly<Record<string, JsonValue>>,
  library: 'diffusers' | 'transformers',
  dtype: FloatType,
): Record<string, JsonValue> {
  if (library === 'diffusers') return { ...config };
  const type = PYTHON_TYPES[dtype];
  return { ...config, ...('torch_dtype' in config && { torch_dtype: type }), dtype: type };
}

/** Saves a scheduler's config as `scheduler_config.json`. */
export async function saveSchedulerConfig(folder: string, config: Config): Promise<void> {
  await writeJsonAtomic(join(folder, 'scheduler_config.json'), withPythonFloats(config));
}

/**
 * Writes `model_index.json`; do it last, when every component is saved.
 *
 * @param components null for a part the pipeline can have but has not
 * @param settings further init options, such as `requires_safety_checker`
 */
export async function savePipelineIndex(
  folder: string,
  className: string,
  components: Readonly<Record<string, ComponentEntry | null>>,
  settings: Config = {},
  diffusersVersion = '0.33.0',
): Promise<void> {
  const rows = Object.entries(components).map(([name, entry]) => [
    name,
    entry === null ? [null, null] : [entry.library, entry.className],
  ]);
  await writeJsonAtomic(join(folder, 'model_index.json'), {
    _class_name: className,
    _diffusers_version: diffusersVersion,
    ...settings,
    ...(Object.fromEntries(rows) as Config),
  });
}
