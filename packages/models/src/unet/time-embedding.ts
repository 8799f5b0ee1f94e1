/**
 * Sinusoidal embeddings of timesteps and sizes (Vaswani et al. 2017; Ho et al. 2020) and the two-layer map
 * after them. They are always computed in f32, as the reference does, because the argument of sine and cosine
 * reaches 1000.
 */
import * as tf from '@tensorflow/tfjs-core';
import { Linear } from '../layers.js';
import { Module } from '../module.js';

export interface SinusoidOptions {
  /** Length of the vector; even. */
  readonly dim: number;
  /** True: cosines first. */
  readonly flipSinToCos: boolean;
  readonly freqShift: number;
}

/**
 * Embeds numbers as [values.length, dim]: sines and cosines of value * 10000^(-i / (dim/2 - freqShift)).
 *
 * Every operation rounds to f32 as the reference's tensor ops do.
 */
export function sinusoidalEmbedding(values: readonly number[], options: SinusoidOptions): tf.Tensor2D {
  const { dim, flipSinToCos, freqShift } = options;
  const half = dim / 2;
  const frequencies = Float32Array.from({ length: half }, (_, i) =>
    Math.exp(Math.fround(Math.fround(Math.fround(-Math.log(10000)) * i) / (half - freqShift))),
  );
  const result = new Float32Array(values.length * dim);
  const [sines, cosines] = flipSinToCos ? [half, 0] : [0, half];
  values.forEach((value, row) => {
    for (let i = 0; i < half; i++) {
      const angle = Math.fround(Math.fround(value) * frequencies[i]!);
      result[row * dim + sines + i] = Math.sin(angle);
      result[row * dim + cosines + i] = Math.cos(angle);
    }
  });
  return tf.tensor2d(result, [values.length, dim]);
}

/** linear_2(SiLU(linear_1(x))). */
export class TimestepEmbedding extends Module {
  readonly linear1: Linear;
  readonly linear2: Linear;

  constructor(inChannels: number, width: number) {
    super();
    this.linear1 = this.child('linear_1', new Linear(inChannels, width));
    this.linear2 = this.child('linear_2', new Linear(width, width));
  }

  /** [N, in] -> [N, width]. */
  forward(x: tf.Tensor2D): tf.Tensor2D {
    return tf.tidy(
      () => this.linear2.forward(this.linear1.forward(x, 'silu'), 'none', { wide: true }) as tf.Tensor2D,
    );
  }
}
