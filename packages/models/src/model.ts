/**
 * What every model can do with its weights: list them, load them, draw them at random, give them back.
 */
import { randomNormal, randomUniform, uploadWeight } from '@equipoise/backend';
import { invalid } from '@equipoise/core';
import * as tf from '@tensorflow/tfjs-core';
import { Linear } from './layers.js';
import { Module } from './module.js';
import { filterFromHwio, filterToHwio, type Parameter } from './parameter.js';
import type { ManifestEntry, NamedTensor, StateDict, StateEntry } from './state-dict.js';

/** How frozen matrices are kept on the device; the engine decides when this is left out. */
export type WeightStorage = 'f32' | 'bf16';

export interface LoadOptions {
  readonly storage?: WeightStorage;
  /** Called after each tensor with the number of tensors done and in all. */
  readonly onProgress?: (done: number, total: number) => void;
}

export interface RandomOptions {
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
   * Makes the weights whose path satisfies `select` trainable and freezes all others. Weights to be trained
   * must have been loaded with storage `f32`.
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
      read: async () => {
        const values = (await parameter.value.data()) as Float32Array;
        return parameter.layout === 'hwio' ? filterFromHwio(values, parameter.shape) : values;
      },
    }));
  }

  /** Frees the weights. */
  dispose(): void {
    for (const [, parameter] of this.namedParameters()) parameter.dispose();
  }
}

/**
 * Fills `model` from a checkpoint.
 *
 * @param rename maps a path in the model to the key in the checkpoint
 * @throws EquipoiseError naming the key when it is missing or has another shape; the model then holds nothing
 */
export function loadWeights<M extends Model>(
  model: M,
  state: StateDict,
  options: LoadOptions = {},
  rename: (name: string) => string = (name) => name,
): M {
  const parameters = [...model.namedParameters()];
  try {
    parameters.forEach(([name, parameter], index) => {
      parameter.assign(upload(parameter, state.take(rename(name), parameter.shape), options.storage));
      options.onProgress?.(index + 1, parameters.length);
    });
  } catch (error) {
    model.dispose();
    throw error;
  }
  return model;
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

function upload(parameter: Parameter, entry: StateEntry, storage: WeightStorage | undefined): tf.Tensor {
  const { dtype } = entry;
  const bytes =
    parameter.layout === 'hwio' ? filterToHwio(entry.read(), parameter.shape, dtype) : entry.read();
  return uploadWeight(bytes, parameter.deviceShape, dtype, storageFor(parameter, storage));
}

/** Vectors (biases, norms) stay in f32: they cost nothing and their rounding would show. */
function storageFor(parameter: Parameter, storage: WeightStorage | undefined): { storage?: WeightStorage } {
  if (parameter.deviceShape.length < 2) return { storage: 'f32' };
  return storage === undefined ? {} : { storage };
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
  if (storageFor(parameter, storage).storage !== 'bf16') return values;
  const numbers = values.dataSync<'float32'>();
  values.dispose();
  const bytes = new Uint8Array(numbers.buffer, numbers.byteOffset, numbers.byteLength);
  return uploadWeight(bytes, deviceShape, 'F32', { storage: 'bf16' });
}
