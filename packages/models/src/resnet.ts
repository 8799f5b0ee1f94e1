/**
 * Blocks shared by the UNet and the autoencoder: the residual block and the resampling layers.
 */
import * as tf from '@tensorflow/tfjs-core';
import { addBatched } from './batch.js';
import { Conv2d, GroupNorm, Linear, PointwiseConv } from './layers.js';
import { Module } from './module.js';

export interface ResnetOptions {
  readonly inChannels: number;
  readonly outChannels: number;
  /** Width of the time embedding; null where there is none. */
  readonly timeChannels: number | null;
  readonly groups: number;
  readonly epsilon: number;
}

/**
 * h = conv1(SiLU(norm1 x)) + W t; h = conv2(SiLU(norm2 h)); result shortcut(x) + h. The shortcut is a 1x1
 * convolution where the widths differ.
 */
export class ResnetBlock2D extends Module {
  readonly #norm1: GroupNorm;
  readonly #conv1: Conv2d;
  readonly #timeProjection: Linear | null;
  readonly #norm2: GroupNorm;
  readonly #conv2: Conv2d;
  readonly #shortcut: PointwiseConv | null;

  constructor({ inChannels, outChannels, timeChannels, groups, epsilon }: ResnetOptions) {
    super();
    this.#norm1 = this.child('norm1', new GroupNorm(inChannels, groups, epsilon));
    this.#conv1 = this.child('conv1', new Conv2d(inChannels, outChannels, { kernel: 3 }));
    this.#timeProjection =
      timeChannels === null ? null : this.child('time_emb_proj', new Linear(timeChannels, outChannels));
    this.#norm2 = this.child('norm2', new GroupNorm(outChannels, groups, epsilon));
    this.#conv2 = this.child('conv2', new Conv2d(outChannels, outChannels, { kernel: 3 }));
    this.#shortcut =
      inChannels === outChannels
        ? null
        : this.child('conv_shortcut', new PointwiseConv(inChannels, outChannels));
  }

  /**
   * x [B,H,W,in] -> [B,H,W,out].
   *
   * @param time SiLU of the time embedding, [B or 1, timeChannels]
   */
  forward(x: tf.Tensor4D, time: tf.Tensor2D | null): tf.Tensor4D {
    return tf.tidy(() => {
      const first = tf.tidy(() => this.#first(this.#norm1.forward(x, 'silu'), time));
      const second = this.#norm2.forward(first, 'silu');
      first.dispose();
      const residual = this.#shortcut === null ? x : this.#shortcut.forward(x);
      return this.#conv2.forward(second, null, { residual });
    });
  }

  #first(x: tf.Tensor4D, time: tf.Tensor2D | null): tf.Tensor4D {
    if (this.#timeProjection === null || time === null) return this.#conv1.forward(x);
    // One time for the whole batch is a constant per channel: it costs nothing as part of the bias, nor does its
    // storage as f32, which would widen an image that it is added to.
    const single = time.shape[0] === 1;
    const shift = this.#timeProjection.forward(time, 'none', { wide: single }) as tf.Tensor2D;
    const [rows, channels] = shift.shape;
    if (single) return this.#conv1.forward(x, tf.reshape(shift, [channels]));
    return addBatched(this.#conv1.forward(x), tf.reshape(shift, [rows, 1, 1, channels]) as tf.Tensor4D);
  }
}

/** A strided 3x3 convolution that halves the image. */
export class Downsample2D extends Module {
  readonly #conv: Conv2d;

  /** @param pad zeros on [[top, bottom], [left, right]] */
  constructor(channels: number, pad: [[number, number], [number, number]]) {
    super();
    this.#conv = this.child('conv', new Conv2d(channels, channels, { kernel: 3, stride: 2, pad }));
  }

  forward(x: tf.Tensor4D): tf.Tensor4D {
    return this.#conv.forward(x);
  }
}

/** Nearest-neighbour enlargement followed by a 3x3 convolution. */
export class Upsample2D extends Module {
  readonly #conv: Conv2d;

  constructor(channels: number) {
    super();
    this.#conv = this.child('conv', new Conv2d(channels, channels, { kernel: 3 }));
  }

  /** @param size [height, width] of the result; twice the input's by default */
  forward(x: tf.Tensor4D, size: readonly [number, number] = [2 * x.shape[1], 2 * x.shape[2]]): tf.Tensor4D {
    return tf.tidy(() => this.#conv.forward(enlarge(x, size)));
  }
}

/**
 * Nearest-neighbour enlargement to twice the size, or one row or column less. It has a gradient of its own,
 * because TensorFlow.js's CPU backend mixes up the images of a batch in ResizeNearestNeighborGrad.
 */
function enlarge(x: tf.Tensor4D, [height, width]: readonly [number, number]): tf.Tensor4D {
  const [batch, h, w, channels] = x.shape;
  const run = tf.customGrad((image: tf.Tensor | tf.GradSaveFunc) => ({
    value: tf.image.resizeNearestNeighbor(image as tf.Tensor4D, [height, width]),
    gradFunc: (dy: tf.Tensor) => {
      const whole = tf.pad(dy as tf.Tensor4D, [
        [0, 0],
        [0, 2 * h - height],
        [0, 2 * w - width],
        [0, 0],
      ]);
      const rows = tf.sum(tf.reshape(whole, [batch * h, 2, 2 * w * channels]), 1);
      return tf.reshape(tf.sum(tf.reshape(rows, [batch * h * w, 2, channels]), 1), [batch, h, w, channels]);
    },
  }));
  return run(x) as tf.Tensor4D;
}
