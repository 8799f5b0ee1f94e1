/**
 * A small model with the reference's results, as tools/parity/make_model_fixtures.py writes it, and the engines
 * the tests run on.
 */
import { type Engine, setPrecision } from '@equipoise/backend';
import { EquipoiseError, invalid, parseJson } from '@equipoise/core';
import { fixturesOf, requireClose, type Tolerance } from '@equipoise/testing';
import {
  memorySource,
  parseSafetensors,
  StateDict,
  type TensorInfo,
  type TensorSource,
} from '@equipoise/weights';
import * as tf from '@tensorflow/tfjs-core';

const FIXTURES = fixturesOf(import.meta.url, '../../fixtures');

type Scalars = Record<string, unknown>;

export class ModelFixture {
  readonly config: Scalars;
  readonly scalars: Scalars;
  readonly #name: string;
  readonly #tensors: ReadonlyMap<string, TensorInfo>;
  readonly #data: Uint8Array<ArrayBuffer>;

  constructor(name: string) {
    const bytes = FIXTURES.bytes(`${name}.safetensors`);
    const { tensors, metadata, dataOffset } = parseSafetensors(bytes, name);
    this.#name = name;
    this.#tensors = new Map(tensors.map((tensor) => [tensor.name, tensor]));
    this.#data = bytes.slice(dataOffset);
    const { config, scalars } = parseJson(metadata.get('fixture') ?? '', name) as Record<string, Scalars>;
    this.config = config!;
    this.scalars = scalars!;
  }

  #info(key: string): TensorInfo {
    const info = this.#tensors.get(key);
    if (info === undefined) throw new EquipoiseError('missing', `fixture ${this.#name}: no tensor ${key}`);
    return info;
  }

  /** Keys that start with `prefix`, without it. */
  keys(prefix: string): string[] {
    return [...this.#tensors.keys()].flatMap((key) =>
      key.startsWith(prefix) ? [key.slice(prefix.length)] : [],
    );
  }

  bytes(key: string): Uint8Array<ArrayBuffer> {
    const { begin, end } = this.#info(key);
    return this.#data.slice(begin, end);
  }

  shape(key: string): number[] {
    return [...this.#info(key).shape];
  }

  /** An f32 tensor's numbers. */
  numbers(key: string): Float32Array<ArrayBuffer> {
    return new Float32Array(this.bytes(key).buffer);
  }

  /** An f32 tensor on the current engine. */
  tensor<T extends tf.Tensor>(key: string): T {
    return tf.tensor(this.numbers(key), this.shape(key)) as T;
  }

  /** The weights, optionally under other names. */
  sources(rename: (key: string) => string = (key) => key): TensorSource[] {
    return this.keys('w:').map((key) => {
      const { dtype, shape } = this.#info(`w:${key}`);
      return memorySource(rename(key), dtype, shape, this.bytes(`w:${key}`), this.#name);
    });
  }

  /** {@link sources} as a checkpoint. */
  state(rename?: (key: string) => string): StateDict {
    return new StateDict(this.sources(rename), this.#name);
  }

  /** Compares a tensor with `key` and disposes it. */
  async check(key: string, actual: tf.Tensor, tolerance: Tolerance): Promise<void> {
    if (!tf.util.arraysEqual(actual.shape, this.shape(key)))
      throw invalid(key, `shape [${this.shape(key)}]`, actual.shape);
    const values = (await actual.data()) as Float32Array;
    actual.dispose();
    requireClose(key, values, this.numbers(key), { shape: this.shape(key), ...tolerance });
  }
}

/** Parity in f32: the project's bound on outputs. */
export const PARITY: Tolerance = { absolute: 1e-4 };

/** Gradients sum over many positions, so their bound grows with their size. */
export const GRADIENT_PARITY: Tolerance = { absolute: 2e-4, relative: 1e-4 };

/**
 * The bound in bf16: what bf16 costs the reference on the same model. (Rounding the inputs of the matrix products
 * alone, which bf16 hardware requires, costs about half of that.)
 */
export function bf16Tolerance(name: string, key: string): Tolerance {
  const errors = FIXTURES.json<Record<string, Record<string, number>>>('bf16.json');
  const error = errors[name]?.[key];
  if (error === undefined) throw new EquipoiseError('missing', `fixture bf16.json: no ${name} ${key}`);
  return { relativeNorm: error };
}

/** Runs `work` with the engine's fast precision, where it has one. */
export async function inBf16(engine: Engine, work: () => Promise<void>): Promise<void> {
  if (engine === 'cpu') return;
  setPrecision('bf16');
  try {
    await work();
  } finally {
    setPrecision('f32');
  }
}

/** TensorFlow.js's own engine, and ours. */
export const ENGINES: readonly Engine[] = ['cpu', 'equipoise-cpu'];

/** Keys and shapes of the full-size architectures, with their configs. */
export function referenceKeys(): Uint8Array<ArrayBuffer> {
  return FIXTURES.bytes('keys.json.gz');
}
