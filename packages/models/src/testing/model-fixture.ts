/**
 * A small model with the reference's results, as tools/parity/make_model_fixtures.py writes it, and the engines
 * the tests run on.
 */
import type { Engine } from '@equipoise/backend';
import { EquipoiseError, invalid, parseJson } from '@equipoise/core';
import { fixturesOf, requireClose, type Tolerance } from '@equipoise/testing';
import * as tf from '@tensorflow/tfjs-core';
import type { StateDict, StateEntry, WeightDtype } from '../state-dict.js';

const FIXTURES = fixturesOf(import.meta.url, '../../fixtures');

interface Entry {
  readonly dtype: WeightDtype;
  readonly shape: number[];
  readonly data_offsets: [number, number];
}

export class ModelFixture {
  readonly config: Record<string, unknown>;
  readonly scalars: Record<string, unknown>;
  readonly #entries: Record<string, Entry>;
  readonly #data: Uint8Array<ArrayBuffer>;

  constructor(name: string) {
    const bytes = FIXTURES.bytes(`${name}.safetensors`);
    const length = Number(new DataView(bytes.buffer).getBigUint64(0, true));
    const header = parseJson(new TextDecoder().decode(bytes.subarray(8, 8 + length)), name) as Record<
      string,
      unknown
    >;
    const { __metadata__: metadata, ...entries } = header;
    const { config, scalars } = metadata as { config: string; scalars: string };
    this.config = parseJson(config, name) as Record<string, unknown>;
    this.scalars = parseJson(scalars, name) as Record<string, unknown>;
    this.#entries = entries as Record<string, Entry>;
    this.#data = bytes.slice(8 + length);
  }

  #entry(key: string): Entry {
    const entry = this.#entries[key];
    if (entry === undefined) throw new EquipoiseError('missing', `fixture: no tensor ${key}`);
    return entry;
  }

  /** Keys that start with `prefix`, without it. */
  keys(prefix: string): string[] {
    return Object.keys(this.#entries).flatMap((key) =>
      key.startsWith(prefix) ? [key.slice(prefix.length)] : [],
    );
  }

  bytes(key: string): Uint8Array<ArrayBuffer> {
    return this.#data.slice(...this.#entry(key).data_offsets);
  }

  shape(key: string): number[] {
    return this.#entry(key).shape;
  }

  /** An f32 tensor's numbers. */
  numbers(key: string): Float32Array {
    return new Float32Array(this.bytes(key).buffer);
  }

  /** An f32 tensor on the current engine. */
  tensor<T extends tf.Tensor>(key: string): T {
    return tf.tensor(this.numbers(key), this.shape(key)) as T;
  }

  /** The weights, optionally under other names; notes what was taken. */
  state(rename: (key: string) => string = (key) => key): StateDict & { readonly taken: Set<string> } {
    const names = new Map(this.keys('w:').map((key) => [rename(key), `w:${key}`]));
    const taken = new Set<string>();
    return {
      taken,
      has: (name) => names.has(name),
      take: (name, shape): StateEntry => {
        const key = names.get(name);
        if (key === undefined) throw new EquipoiseError('missing', `${name}: no such tensor`);
        if (!tf.util.arraysEqual(this.shape(key), [...shape]))
          throw invalid(name, `shape [${shape}]`, this.shape(key));
        taken.add(name);
        return { dtype: this.#entry(key).dtype, read: () => this.bytes(key) };
      },
    };
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

/** The engines that can run here: TensorFlow.js's own, and ours where it has kernels for the models. */
export async function testEngines(): Promise<Engine[]> {
  const ours = ['BatchMatMul', 'Conv2D'].every((kernel) => tf.getKernel(kernel, 'equipoise-cpu') != null);
  return ours ? ['cpu', 'equipoise-cpu'] : ['cpu'];
}

/** Keys and shapes of the full-size architectures, with their configs. */
export function referenceKeys(): Uint8Array<ArrayBuffer> {
  return FIXTURES.bytes('keys.json.gz');
}
