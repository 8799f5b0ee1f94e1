/**
 * The judges' body: a small convolutional network from a picture to logits: one vector for the
 * picture, or one for every cell of an 8 x 8 grid, which is how a judge sees what is where.
 */
import { conv2d, linear } from '@equipoise/backend';
import { loadWeights, Model, Module, Parameter, randomWeights, type StateDict } from '@equipoise/models';
import * as tf from '@tensorflow/tfjs-core';

/** Output channels and stride of the 3x3 convolutions: from 64 x 64 to 8 x 8, where cells are asked. */
const BODY: readonly (readonly [channels: number, stride: 1 | 2])[] = [
  [24, 2],
  [48, 2],
  [48, 1],
  [96, 2],
  [96, 1],
];
/** Channels of the last convolution; it halves the sides once more where the whole picture is asked. */
const LAST = 96;
const HIDDEN = 192;

/** Cells along each side of the feature map that a judge of places answers on. */
export const GRID = 8;

/** Where a network answers: once for the picture, or once for every cell of the grid. */
export type Extent = 'picture' | 'cell';

/** U(-b, b) with b = sqrt(6 / fanIn): keeps the variance of activations through ReLUs (He et al., 2015). */
function heUniform(fanIn: number): { kind: 'uniform'; bound: number } {
  return { kind: 'uniform', bound: Math.sqrt(6 / fanIn) };
}

const ZERO = { kind: 'constant', value: 0 } as const;

class Convolution extends Module {
  readonly #weight: Parameter;
  readonly #bias: Parameter;

  constructor(
    input: number,
    output: number,
    readonly stride: 1 | 2,
  ) {
    super();
    this.#weight = this.parameter(
      'weight',
      new Parameter([output, input, 3, 3], heUniform(input * 9), 'hwio'),
    );
    this.#bias = this.parameter('bias', new Parameter([output], ZERO));
  }

  forward(x: tf.Tensor4D): tf.Tensor4D {
    const pad: [[number, number], [number, number]] = [
      [1, 1],
      [1, 1],
    ];
    const [weight, bias] = [this.#weight.value as tf.Tensor4D, this.#bias.value as tf.Tensor1D];
    return conv2d(x, weight, bias, { stride: this.stride, pad, activation: 'relu' }) as tf.Tensor4D;
  }
}

class Dense extends Module {
  readonly #weight: Parameter;
  readonly #bias: Parameter;

  constructor(input: number, output: number) {
    super();
    this.#weight = this.parameter('weight', new Parameter([output, input], heUniform(input)));
    this.#bias = this.parameter('bias', new Parameter([output], ZERO));
  }

  forward(x: tf.Tensor, activation: 'none' | 'relu' = 'none'): tf.Tensor {
    return linear(
      x,
      this.#weight.value as tf.Tensor2D,
      this.#bias.value as tf.Tensor1D,
      activation,
    ) as tf.Tensor2D;
  }
}

export class JudgeNetwork extends Model {
  readonly #convolutions: readonly Convolution[];
  readonly #hidden: Dense | null;
  readonly #output: Dense;

  /** @param outputs length of the logit vector, of the picture or of each cell */
  constructor(
    readonly outputs: number,
    readonly extent: Extent,
  ) {
    super();
    const layers = [...BODY, [LAST, extent === 'cell' ? 1 : 2] as const];
    const inputs = [3, ...layers.map(([channels]) => channels)];
    this.#convolutions = this.children(
      'convolutions',
      layers.map(([channels, stride], index) => new Convolution(inputs[index] as number, channels, stride)),
    );
    this.#hidden = extent === 'cell' ? null : this.child('hidden', new Dense((GRID / 2) ** 2 * LAST, HIDDEN));
    this.#output = this.child('output', new Dense(this.#hidden === null ? LAST : HIDDEN, outputs));
  }

  static random(outputs: number, extent: Extent, seed: number): JudgeNetwork {
    return randomWeights(new JudgeNetwork(outputs, extent), seed, { storage: 'f32' });
  }

  static async load(outputs: number, extent: Extent, state: StateDict): Promise<JudgeNetwork> {
    return loadWeights(new JudgeNetwork(outputs, extent), state, { storage: 'f32' });
  }

  /** Logits [B, outputs], or [B, 64, outputs] by cell, of pictures [B, 64, 64, 3] in [-1, 1]. */
  forward(pictures: tf.Tensor4D): tf.Tensor {
    return tf.tidy(() => this.#output.forward(this.features(pictures)));
  }

  /** What the logits are read from: [B, 192] of the picture, or [B, 64, 96] by cell. */
  features(pictures: tf.Tensor4D): tf.Tensor {
    return tf.tidy(() => {
      let x = pictures;
      for (const layer of this.#convolutions) x = layer.forward(x);
      if (this.#hidden === null) return tf.reshape(x, [x.shape[0], GRID * GRID, LAST]);
      return this.#hidden.forward(tf.reshape(x, [x.shape[0], -1]), 'relu');
    });
  }
}
