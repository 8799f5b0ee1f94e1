/**
 * What every model can do with its weights: list them, load them, draw them at random, give them back.
 */
import { getPrecision, randomNormal, randomUniform, releaseUploadMemory } from '@equipoise/backend';
import { invalid } from '@equipoise/core';
import type { TensorSource } from '@equipoise/weights';
import * as tf from '@tensorflow/tfjs-core';
import { Linear } from './layers.js';
import { Module } from './module.js';
import { type Parameter, uploadNumbers, type WeightStorage } from './parameter.js';
import type { ManifestEntry, NamedTensor, StateDict, StateEntry, WeightDtype } from './state-dict.js';
import { tensorSources } from './tensor-sources.js';

export interface LoadOptions {
  /** How matrices are kept on the device; the process's precision when left out. */
  readonly storage?: WeightStorage;
  /** Called after each tensor with the number of tensors done and in all. */
  readonly onProgress?: (done: number, total: number) => void;
}

export interface RandomOptions {
  /** As for {@link LoadOptions}. */
  readonly storage?: WeightStorage;
}

export abstract class Model extends Module {
  /** Every key of the checkpoint with its shape in torch's layout. */
  manifest(): ManifestEntry[] {
    return [...this.namedParameters()].map(([name, { shape }]) => ({ name, shape }));
  }

  /** Number of weights. */
  get parameterCount(): number {
    let count = 0;
    for (const [, parameter] of this.namedParameters()) count += parameter.size;
    return count;
  }

  /** The linear layers by path: what adapters attach to. */
  *namedLinears(): Generator<[string, Linear]> {
    for (const [name, module] of this.namedModules()) {
      if (module instanceof Linear) yield [name, module];
    }
  }

  /**
   * Makes the weights whose path satisfies `select` trainable and freezes all others.
   *
   * @returns the variables by path
   */
  setTrainable(select: (name: string) => boolean): Map<string, tf.Variable> {
    const variables = new Map<string, tf.Variable>();
    for (const [name, parameter] of this.namedParameters()) {
      parameter.setTrainable(select(name));
      if (parameter.variable !== null) variables.set(name, parameter.variable);
    }
    return variables;
  }

  /** The weights in torch's layout and names, read back one by one as they are asked for. */
  stateDict(): NamedTensor[] {
    return [...this.namedParameters()].map(([name, parameter]) => ({
      name,
      shape: parameter.shape,
      read: () => parameter.download(),
    }));
  }

  /** {@link stateDict} as what `@equipoise/weights` writes to files. At most one tensor is held at a time. */
  tensorSources(): TensorSource[] {
    return tensorSources(this.stateDict(), this.constructor.name);
  }

  /** Frees the weights. */
  dispose(): void {
    for (const [, parameter] of this.namedParameters()) parameter.dispose();
  }
}

/** How a model's names relate to a checkpoint's. */
export interface KeyRules {
  /** Maps a path in the model to the key in the checkpoint. */
  readonly rename?: (name: string) => string;
  /** Keys that belong to other models and may lie in the same file. */
  readonly ignore?: readonly RegExp[];
}

/** Constant index buffers that older files carry. */
const POSITION_IDS = /(^|\.)position_ids$/;

/**
 * Fills `model` from a checkpoint. The next tensor is read while the present one is rearranged.
 *
 * @throws EquipoiseError naming the keys that are missing, unexpected or of another shape; the model then
 * holds no weights
 */
export async function loadWeights<M extends Model>(
  model: M,
  state: StateDict,
  options: LoadOptions = {},
  { rename = (name) => name, ignore = [] }: KeyRules = {},
): Promise<M> {
  const parameters = [...model.namedParameters()].map(([name, parameter]) => ({
    key: rename(name),
    parameter,
  }));
  const manifest = new Map(parameters.map(({ key, parameter }) => [key, parameter.shape]));
  state.require?.(manifest, { ignore: [POSITION_IDS, ...ignore] });
  const staging = new Staging();
  const open = (index: number) => {
    const next = parameters[index];
    return next === undefined ? null : startReading(state, next.key, next.parameter, staging);
  };
  try {
    let pending = open(0);
    for (const [index, { parameter }] of parameters.entries()) {
      const { dtype, bytes } = pending!;
      const data = await bytes;
      pending = open(index + 1);
      parameter.upload(data, dtype, storageFor(parameter, options.storage));
      options.onProgress?.(index + 1, parameters.length);
    }
  } catch (error) {
    model.dispose();
    throw error;
  } finally {
    releaseUploadMemory();
  }
  return model;
}

/** Two buffers, used in turn: one tensor is read while the one before it is uploaded. */
class Staging {
  readonly #buffers = [new Uint8Array(0), new Uint8Array(0)];
  #turn = 0;

  next(length: number): Uint8Array {
    this.#turn = 1 - this.#turn;
    if (this.#buffers[this.#turn]!.length < length) this.#buffers[this.#turn] = new Uint8Array(length);
    return this.#buffers[this.#turn]!.subarray(0, length);
  }
}

function startReading(
  state: StateDict,
  key: string,
  { shape }: Parameter,
  staging: Staging,
): { dtype: WeightDtype; bytes: Promise<Uint8Array> } {
  const entry = state.take(key, shape);
  const { dtype } = entry;
  if (dtype !== 'F32' && dtype !== 'F16' && dtype !== 'BF16') {
    throw invalid(`tensor ${JSON.stringify(key)}: dtype`, 'F32, F16 or BF16', dtype, { code: 'unsupported' });
  }
  const bytes = readBytes(entry, staging);
  // The one who awaits it reports the failure; until then it must not count as unhandled.
  bytes.catch(() => undefined);
  return { dtype, bytes };
}

async function readBytes(entry: StateEntry, staging: Staging): Promise<Uint8Array> {
  if (entry.readInto === undefined || entry.byteLength === undefined) return entry.read();
  const target = staging.next(entry.byteLength);
  await entry.readInto(target);
  return target;
}

/**
 * Fills `model` with fresh weights, distributed as the reference libraries initialise them. Each weight has a
 * random stream of its own, so the numbers depend on the seed and the architecture alone.
 */
export function randomWeights<M extends Model>(model: M, seed: number, options: RandomOptions = {}): M {
  if (!Number.isSafeInteger(seed) || seed < 0) throw invalid('seed', 'a non-negative integer', seed);
  let stream = 0;
  for (const [, parameter] of model.namedParameters()) {
    parameter.assign(draw(parameter, seed, stream++, options.storage));
  }
  return model;
}

/** Vectors (biases, norms) stay in f32: they cost nothing and their rounding would show. */
function storageFor(parameter: Parameter, storage: WeightStorage = getPrecision()): WeightStorage {
  return parameter.deviceShape.length < 2 ? 'f32' : storage;
}

function draw(
  parameter: Parameter,
  seed: number,
  stream: number,
  storage: WeightStorage | undefined,
): tf.Tensor {
  const { initializer, deviceShape } = parameter;
  const values = tf.tidy(() => {
    switch (initializer.kind) {
      case 'constant':
        return tf.fill(deviceShape, initializer.value);
      case 'normal':
        return tf.mul(randomNormal(deviceShape, { seed, stream }), initializer.std);
      case 'uniform':
        return tf.sub(
          tf.mul(randomUniform(deviceShape, { seed, stream }), 2 * initializer.bound),
          initializer.bound,
        );
    }
  });
  const numbers = values.dataSync<'float32'>();
  values.dispose();
  return uploadNumbers(numbers, deviceShape, storageFor(parameter, storage));
}
