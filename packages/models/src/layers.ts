/**
 * The layers the models are built from: weights by torch's names, computation by the fused kernels.
 * Activations are channels-last throughout: images [N,H,W,C], tokens [N,L,C].
 */
import {
  type Activation,
  activate,
  conv2d,
  groupNorm,
  layerNorm,
  linear,
  type ProductOptions,
} from '@equipoise/backend';
import * as tf from '@tensorflow/tfjs-core';
import { addBatched, repeatBatch } from './batch.js';
import { Module } from './module.js';
import { fanIn, type Initializer, ONES, Parameter, ZEROS } from './parameter.js';

/** Replaces the computation of a {@link Linear} layer, as LoRA and DoRA do. */
export interface LinearAdapter {
  /** The layer's output for `x` [..., in]; it may call {@link Linear.base}. */
  forward(x: tf.Tensor, layer: Linear): tf.Tensor;
  /** What is trained. */
  variables(): tf.Variable[];
}

export interface LinearOptions {
  readonly bias?: boolean;
  readonly weightInitializer?: Initializer;
  readonly biasInitializer?: Initializer;
  /** Stored in the checkpoint as a 1x1 convolution, [out, in, 1, 1]. */
  readonly pointwise?: boolean;
}

/** Runs a layer with a residual of x's batch; a smaller one is repeated, see batch.ts. */
function product<T extends tf.Tensor>(
  x: tf.Tensor,
  { residual, wide = false }: ProductOptions,
  run: (options: ProductOptions) => T,
): T {
  if (residual == null) return run({ wide });
  return tf.tidy(() => run({ residual: repeatBatch(residual, x.shape[0] as number), wide }));
}

/** y = x Wᵀ + b over the last axis; weight [out, in], in the checkpoint also [out, in, 1, 1]. */
export class Linear extends Module {
  readonly weight: Parameter;
  readonly bias: Parameter | null;
  /** When set, it computes this layer's output. */
  adapter: LinearAdapter | null = null;

  constructor(
    readonly inFeatures: number,
    readonly outFeatures: number,
    options: LinearOptions = {},
  ) {
    super();
    const initializer = options.weightInitializer ?? fanIn(inFeatures);
    const weight = options.pointwise
      ? new Parameter([outFeatures, inFeatures, 1, 1], initializer, 'matrix')
      : new Parameter([outFeatures, inFeatures], initializer);
    this.weight = this.parameter('weight', weight);
    this.bias =
      options.bias === false
        ? null
        : this.parameter('bias', new Parameter([outFeatures], options.biasInitializer ?? fanIn(inFeatures)));
  }

  /** x [..., in] -> [..., out], through the adapter if there is one. */
  forward(x: tf.Tensor, activation: Activation = 'none', options: ProductOptions = {}): tf.Tensor {
    const adapter = this.adapter;
    if (adapter === null) return this.base(x, activation, options);
    return tf.tidy(() => {
      const y = activate(adapter.forward(x, this), activation);
      return options.residual == null ? y : addBatched(options.residual, y);
    });
  }

  /** The layer without its adapter. */
  base(x: tf.Tensor, activation: Activation = 'none', options: ProductOptions = {}): tf.Tensor {
    const [weight, bias] = [this.weight.value, this.bias?.value ?? null];
    return product(x, options, (given) => linear(x, weight, bias, activation, given));
  }

  override extraVariables(): tf.Variable[] {
    return this.adapter?.variables() ?? [];
  }
}

/** A 1x1 convolution, computed as a linear map over channels; weight [out, in, 1, 1] in the checkpoint. */
export class PointwiseConv extends Linear {
  constructor(inChannels: number, outChannels: number) {
    super(inChannels, outChannels, { pointwise: true });
  }
}

export interface Conv2dOptions {
  readonly kernel: number;
  readonly stride?: number;
  /** Zeros added: [[top, bottom], [left, right]]. */
  readonly pad?: [[number, number], [number, number]];
  readonly bias?: boolean;
  readonly weightInitializer?: Initializer;
}

/** A square convolution; weight [out, in, k, k] in the checkpoint, [k, k, in, out] on the device. */
export class Conv2d extends Module {
  readonly weight: Parameter;
  readonly bias: Parameter | null;
  readonly #stride: number;
  readonly #pad: [[number, number], [number, number]];

  constructor(inChannels: number, outChannels: number, options: Conv2dOptions) {
    super();
    const { kernel, stride = 1, bias = true } = options;
    const count = inChannels * kernel * kernel;
    const half = (kernel - 1) >> 1;
    this.#stride = stride;
    this.#pad = options.pad ?? [
      [half, half],
      [half, half],
    ];
    const shape = [outChannels, inChannels, kernel, kernel];
    this.weight = this.parameter(
      'weight',
      new Parameter(shape, options.weightInitializer ?? fanIn(count), 'hwio'),
    );
    this.bias = bias ? this.parameter('bias', new Parameter([outChannels], fanIn(count))) : null;
  }

  /**
   * x [N,H,W,in] -> [N,H',W',out].
   *
   * @param shift [out], added to the bias: a per-channel term that is the same for all images and positions
   */
  forward(x: tf.Tensor4D, shift: tf.Tensor1D | null = null, options: ProductOptions = {}): tf.Tensor4D {
    const geometry = { stride: this.#stride, pad: this.#pad };
    return tf.tidy(() => {
      let bias: tf.Tensor | null = this.bias?.value ?? null;
      if (shift !== null) bias = bias === null ? shift : tf.add(bias, shift);
      return product(x, options, (given) => conv2d(x, this.weight.value, bias, { ...geometry, ...given }));
    });
  }
}

/** Group normalisation over the channels-last axis, optionally followed by SiLU in the same pass. */
export class GroupNorm extends Module {
  readonly weight: Parameter;
  readonly bias: Parameter;

  constructor(
    channels: number,
    readonly groups: number,
    readonly epsilon: number,
  ) {
    super();
    this.weight = this.parameter('weight', new Parameter([channels], ONES));
    this.bias = this.parameter('bias', new Parameter([channels], ZEROS));
  }

  forward<T extends tf.Tensor>(x: T, activation: 'none' | 'silu' = 'none'): T {
    const { groups, epsilon } = this;
    const [gamma, beta] = [this.weight.value as tf.Tensor1D, this.bias.value as tf.Tensor1D];
    return groupNorm(x, gamma, beta, { groups, epsilon, activation }) as T;
  }
}

/** Layer normalisation over the last axis. */
export class LayerNorm extends Module {
  readonly weight: Parameter;
  readonly bias: Parameter;

  constructor(
    channels: number,
    readonly epsilon: number,
  ) {
    super();
    this.weight = this.parameter('weight', new Parameter([channels], ONES));
    this.bias = this.parameter('bias', new Parameter([channels], ZEROS));
  }

  forward<T extends tf.Tensor>(x: T): T {
    const [gamma, beta] = [this.weight.value as tf.Tensor1D, this.bias.value as tf.Tensor1D];
    return layerNorm(x, gamma, beta, { epsilon: this.epsilon }) as T;
  }
}

/** A table of vectors; weight [count, width]. */
export class Embedding extends Module {
  readonly weight: Parameter;

  constructor(
    readonly count: number,
    readonly width: number,
    initializer: Initializer,
  ) {
    super();
    this.weight = this.parameter('weight', new Parameter([count, width], initializer));
  }

  /** ids [...] (int32) -> [..., width]. */
  forward(ids: tf.Tensor): tf.Tensor {
    return tf.gather(this.weight.value, ids as tf.Tensor1D);
  }
}
