/**
 * A weight: its shape in torch's layout, where it lives on the device, and how a fresh one is drawn.
 */
import { uploadWeight } from '@equipoise/backend';
import { EquipoiseError } from '@equipoise/core';
import * as tf from '@tensorflow/tfjs-core';
import type { WeightDtype } from './state-dict.js';

/**
 * How a torch tensor lies on the device: `same` as in the file; `hwio` for a convolution filter, which torch
 * keeps as [out, in, h, w]; `matrix` for a 1x1 convolution [out, in, 1, 1] that runs as a linear map.
 */
export type DeviceLayout = 'same' | 'hwio' | 'matrix';

/** Distribution of a freshly initialised weight. */
export type Initializer =
  | { readonly kind: 'uniform'; readonly bound: number }
  | { readonly kind: 'normal'; readonly std: number }
  | { readonly kind: 'constant'; readonly value: number };

export const ZEROS: Initializer = { kind: 'constant', value: 0 };
export const ONES: Initializer = { kind: 'constant', value: 1 };

/** torch's default for linear and convolution layers, weights and biases alike: U(-1/sqrt(fan_in), same). */
export function fanIn(count: number): Initializer {
  return { kind: 'uniform', bound: 1 / Math.sqrt(count) };
}

export class Parameter {
  #value: tf.Tensor | undefined;

  constructor(
    /** Shape in the checkpoint. */
    readonly shape: readonly number[],
    readonly initializer: Initializer,
    readonly layout: DeviceLayout = 'same',
  ) {}

  /** Number of elements. */
  get size(): number {
    return this.shape.reduce((product, side) => product * side, 1);
  }

  /** Shape of {@link value}. */
  get deviceShape(): number[] {
    const [out, input, height, width] = this.shape as [number, number, number, number];
    if (this.layout === 'hwio') return [height, width, input, out];
    if (this.layout === 'matrix') return [out, input];
    return [...this.shape];
  }

  get isLoaded(): boolean {
    return this.#value !== undefined;
  }

  /** The weight on the device. */
  get value(): tf.Tensor {
    if (this.#value === undefined) {
      throw new EquipoiseError(
        'missing',
        'weights: expected a loaded or initialised model, got one without weights',
      );
    }
    return this.#value;
  }

  /** The weight as a variable when it is being trained, otherwise null. */
  get variable(): tf.Variable | null {
    return this.#value instanceof tf.Variable ? this.#value : null;
  }

  /** Takes ownership of a tensor of {@link deviceShape}; the previous one is disposed. */
  assign(value: tf.Tensor): void {
    tf.util.assertShapesMatch(value.shape, this.deviceShape, 'Parameter.assign: ');
    this.#value?.dispose();
    this.#value = tf.keep(value);
  }

  /**
   * Makes the weight trainable or frozen again. Its numbers are copied, since a frozen weight may be kept in a
   * coarser format, and engines repack it on the promise that it never changes.
   */
  setTrainable(trainable: boolean): void {
    const value = this.value;
    if (trainable === value instanceof tf.Variable) return;
    const numbers = value.dataSync<'float32'>();
    this.#value = trainable
      ? tf.tidy(() => tf.variable(tf.tensor(numbers, value.shape), true))
      : tf.keep(uploadNumbers(numbers, value.shape, 'f32'));
    value.dispose();
  }

  dispose(): void {
    this.#value?.dispose();
    this.#value = undefined;
  }
}

/** Uploads numbers as a frozen weight. */
export function uploadNumbers(numbers: Float32Array, shape: number[], storage: 'f32' | 'bf16'): tf.Tensor {
  const bytes = new Uint8Array(numbers.buffer, numbers.byteOffset, numbers.byteLength);
  return uploadWeight(bytes, shape, 'F32', { storage });
}

const BYTES: Record<WeightDtype, number> = { F32: 4, F16: 2, BF16: 2 };

/**
 * Rearranges the raw numbers of a convolution filter from torch's [out, in, h, w] to [h, w, in, out].
 *
 * @param bytes row-major numbers of the given format; not modified
 */
export function filterToHwio(bytes: Uint8Array, shape: readonly number[], dtype: WeightDtype): Uint8Array {
  const [out, input, height, width] = shape as [number, number, number, number];
  const element = BYTES[dtype];
  const length = out * input * height * width;
  const aligned = bytes.byteOffset % element === 0 ? bytes : bytes.slice();
  const view = element === 2 ? Uint16Array : Uint32Array;
  const from: Uint16Array | Uint32Array = new view(aligned.buffer as ArrayBuffer, aligned.byteOffset, length);
  const to = new view(length);
  const taps = height * width;
  // Blocks of 16 outputs: one cache line of the result per tap is filled before moving on.
  for (let block = 0; block < out; block += 16) {
    const end = Math.min(out, block + 16);
    for (let i = 0; i < input; i++) {
      for (let tap = 0; tap < taps; tap++) {
        const target = (tap * input + i) * out;
        const source = i * taps + tap;
        for (let o = block; o < end; o++) to[target + o] = from[o * input * taps + source]!;
      }
    }
  }
  return new Uint8Array(to.buffer);
}

/** The inverse of {@link filterToHwio} for numbers read back from the device. */
export function filterFromHwio(values: Float32Array, shape: readonly number[]): Float32Array {
  const [out, input, height, width] = shape as [number, number, number, number];
  const result = new Float32Array(values.length);
  const taps = height * width;
  for (let o = 0; o < out; o++) {
    for (let i = 0; i < input; i++) {
      for (let tap = 0; tap < taps; tap++) {
        result[(o * input + i) * taps + tap] = values[(tap * input + i) * out + o]!;
      }
    }
  }
  return result;
}
