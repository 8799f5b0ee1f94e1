/**
 * The judges' body: a small convolutional network from a picture to a vector of logits. The same class serves
 * both judges, with different outputs.
 */
import { conv2d, linear } from '@equipoise/backend';
import { loadWeights, Model, Module, Parameter, randomWeights, type StateDict } from '@equipoise/models';
import * as tf from '@tensorflow/tfjs-core';
import { IMAGE_SIZE } from '../world/attributes.js';

/** Output channels and stride of each 3x3 convolution. */
const CONVOLUTIONS: readonly (readonly [channels: number, stride: 1 | 2])[] = [
  [24, 2],
  [48, 2],
  [48, 1],
  [96, 2],
  [96, 1],
  [96, 2],
];
const HIDDEN = 192;

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

  forward(x: tf.Tensor, activation: 'none' | 'relu' = 'none'): tf.Tensor2D {
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
  readonly #hidden: Dense;
  readonly #output: Dense;

  /** @param outputs length of the logit vector */
  constructor(readonly outputs: number) {
    super();
    let channels = 3;
    this.#convolutions = this.children(
      'convolutions',
      CONVOLUTIONS.map(([out, stride]) => {
        const layer = new Convolution(channels, out, stride);
        channels = out;
        return layer;
      }),
    );
    const side = CONVOLUTIONS.reduce((size, [, stride]) => size / stride, IMAGE_SIZE);
    this.#hidden = this.child('hidden', new Dense(side * side * channels, HIDDEN));
    this.#output = this.child('output', new Dense(HIDDEN, outputs));
  }

  static random(outputs: number, seed: number): JudgeNetwork {
    return randomWeights(new JudgeNetwork(outputs), seed, { storage: 'f32' });
  }

  static async load(outputs: number, state: StateDict): Promise<JudgeNetwork> {
    return loadWeights(new JudgeNetwork(outputs), state, { storage: 'f32' });
  }

  /** Logits [B, outputs] of pictures [B, 64, 64, 3] in [-1, 1]. */
  forward(pictures: tf.Tensor4D): tf.Tensor2D {
    return tf.tidy(() => {
      let x = pictures;
      for (const layer of this.#convolutions) x = layer.forward(x);
      const flat = tf.reshape(x, [x.shape[0], -1]) as tf.Tensor2D;
      return this.#output.forward(this.#hidden.forward(flat, 'relu'));
    });
  }
}
