/** Adapters from models to files that diffusers and PEFT load. */
import { join } from 'node:path';
import { EquipoiseError, invalid, type JobContext } from '@equipoise/core';
import { tensorSources } from '@equipoise/models';
import {
  castSource,
  type FloatType,
  renamed,
  type SavedModule,
  saveDiffusersAdapter,
  savePeftAdapter,
  type TensorSource,
} from '@equipoise/weights';
import type * as tf from '@tensorflow/tfjs-core';
import type { Adapter } from './attach.js';
import type { LowRankUpdate } from './low-rank.js';

export interface SaveAdapterOptions extends JobContext {
  /**
   * `diffusers`: one file `pytorch_lora_weights.safetensors`. `peft`: `adapter_model.safetensors` with
   * `adapter_config.json`; of several components each in a folder of its name. Default `diffusers`.
   */
  readonly spelling?: 'diffusers' | 'peft';
  /** Default F32. */
  readonly dtype?: FloatType;
  /** Recorded by PEFT as the model the adapter belongs to. */
  readonly baseModel?: string;
}

/**
 * Saves the adapters of a pipeline's components. Weights set with {@link Adapter.setWeight} are not part of a file.
 *
 * @param parts by component: `{ unet: adapter }`
 * @returns the files' folder
 */
export async function saveAdapter(
  folder: string,
  parts: Readonly<Record<string, Adapter>> | ReadonlyMap<string, Adapter>,
  options: SaveAdapterOptions = {},
): Promise<string> {
  const { spelling = 'diffusers', dtype = 'F32', baseModel, signal, onProgress } = options;
  const entries: [string, Adapter][] = parts instanceof Map ? [...parts] : Object.entries(parts);
  if (entries.length === 0) throw invalid('parts', 'at least one adapter', 0);
  const components = new Map(
    entries.map(([component, adapter]) => [component, savedModules(adapter, dtype)]),
  );
  const context = { signal, onProgress };
  if (spelling === 'diffusers') {
    await saveDiffusersAdapter(folder, components, context);
    return folder;
  }
  if (spelling !== 'peft') throw invalid('spelling', 'diffusers or peft', spelling);
  for (const [component, modules] of components) {
    const target = components.size === 1 ? folder : join(folder, component);
    await savePeftAdapter(target, modules, { ...context, ...(baseModel !== undefined && { baseModel }) });
  }
  return folder;
}

/** An adapter's layers as the file writers take them; tensors are read back from the device as they are written. */
function savedModules(adapter: Adapter, dtype: FloatType): Map<string, SavedModule> {
  return new Map(
    [...adapter.updates].map(([path, update]) => [path, savedModule(adapter.name, path, update, dtype)]),
  );
}

function savedModule(name: string, path: string, update: LowRankUpdate, dtype: FloatType): SavedModule {
  const { down, up, magnitude, rank, scaling, layer } = update;
  // A 1x1 convolution's adapter is a pair of convolutions.
  const spatial = layer.weight.shape.slice(2);
  const source = (part: string, variable: tf.Variable, shape: readonly number[]): TensorSource => {
    const read = async (): Promise<Float32Array> => {
      const values = (await variable.data()) as Float32Array;
      const bad = values.findIndex((value) => !Number.isFinite(value));
      if (bad < 0) return values;
      throw new EquipoiseError(
        'numeric',
        `adapter ${name}: ${path}.${part}[${bad}]: expected a finite number, got ${values[bad]}`,
      );
    };
    const [raw] = tensorSources(
      [{ name: `${path}.${part}`, shape: variable.shape, read }],
      `adapter ${name}`,
    ) as [TensorSource];
    return castSource(renamed(raw, raw.name, shape), dtype);
  };
  return {
    down: source('down', down, [...down.shape, ...spatial]),
    up: source('up', up, [...up.shape, ...spatial]),
    ...(magnitude !== null && {
      magnitude: source(
        'magnitude',
        magnitude,
        spatial.length === 0 ? magnitude.shape : [1, layer.outFeatures, ...spatial],
      ),
    }),
    alpha: scaling * rank,
    scaling,
  };
}
