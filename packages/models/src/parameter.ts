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

/** Axes of torch's filter in terms of the device's [h, w, in, out]. */
const OIHW = [3, 2, 0, 1];

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

/** How frozen matrices are kept on the device. */
export type WeightStorage = 'f32' | 'bf16';

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

  /** Uploads the numbers of a checkpoint, in torch's layout. */
  upload(bytes: Uint8Array, dtype: WeightDtype, storage: WeightStorage): void {
    if (this.layout === 'hwio') {
      this.assign(uploadWeight(bytes, [...this.shape], dtype, { storage, layout: 'oihw' }));
    } else {
      this.assign(uploadWeight(bytes, this.deviceShape, dtype, { storage }));
    }
  }

  /** Reads the numbers back in torch's layout. */
  async download(): Promise<Float32Array> {
    if (this.layout !== 'hwio') return (await this.value.data()) as Float32Array;
    const filter = tf.tidy(() => tf.transpose(this.value, OIHW));
    const values = (await filter.data()) as Float32Array;
    filter.dispose();
    return values;
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
export function uploadNumbers(numbers: Float32Array, shape: number[], storage: WeightStorage): tf.Tensor {
  const bytes = new Uint8Array(numbers.buffer, numbers.byteOffset, numbers.byteLength);
  return uploadWeight(bytes, shape, 'F32', { storage });
}
