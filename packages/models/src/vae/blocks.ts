/**
 * Encoder and decoder of the autoencoder (Esser et al. 2021; Rombach et al. 2022). Every group norm here has
 * epsilon 1e-6.
 */
import { attention } from '@equipoise/backend';
import * as tf from '@tensorflow/tfjs-core';
import { Conv2d, GroupNorm, Linear } from '../layers.js';
import { Module } from '../module.js';
import { Downsample2D, ResnetBlock2D, Upsample2D } from '../resnet.js';
import type { AutoencoderConfig } from './config.js';

const EPSILON = 1e-6;

/** Runs `steps` in turn, freeing what lies between; the input stays the caller's. */
function chain(x: tf.Tensor4D, steps: Iterable<(x: tf.Tensor4D) => tf.Tensor4D>): tf.Tensor4D {
  let h = x;
  for (const step of steps) {
    const next = step(h);
    if (h !== x) h.dispose();
    h = next;
  }
  return h;
}

/** Self-attention over the image's positions with one head as wide as the image; with biases throughout. */
class ImageAttention extends Module {
  readonly #groupNorm: GroupNorm;
  readonly #toQ: Linear;
  readonly #toK: Linear;
  readonly #toV: Linear;
  readonly #toOut: Linear;

  constructor(channels: number, groups: number) {
    super();
    this.#groupNorm = this.child('group_norm', new GroupNorm(channels, groups, EPSILON));
    this.#toQ = this.child('to_q', new Linear(channels, channels));
    this.#toK = this.child('to_k', new Linear(channels, channels));
    this.#toV = this.child('to_v', new Linear(channels, channels));
    this.#toOut = this.child('to_out.0', new Linear(channels, channels));
  }

  forward(x: tf.Tensor4D): tf.Tensor4D {
    return tf.tidy(() => {
      const [batch, height, width, channels] = x.shape;
      const tokens = tf.reshape(this.#groupNorm.forward(x), [batch, height * width, channels]);
      const [q, k, v] = [this.#toQ.forward(tokens), this.#toK.forward(tokens), this.#toV.forward(tokens)];
      const residual = tf.reshape(x, tokens.shape);
      const out = this.#toOut.forward(attention(q, k, v, { heads: 1 }), 'none', { residual });
      return tf.reshape(out, x.shape);
    });
  }
}

function resnet(inChannels: number, outChannels: number, groups: number): ResnetBlock2D {
  return new ResnetBlock2D({ inChannels, outChannels, timeChannels: null, groups, epsilon: EPSILON });
}

class MidBlock extends Module {
  readonly #attention: ImageAttention | null;
  readonly #resnets: readonly [ResnetBlock2D, ResnetBlock2D];

  constructor(channels: number, { norm_num_groups, mid_block_add_attention }: AutoencoderConfig) {
    super();
    this.#attention = mid_block_add_attention
      ? this.child('attentions.0', new ImageAttention(channels, norm_num_groups))
      : null;
    this.#resnets = [
      this.child('resnets.0', resnet(channels, channels, norm_num_groups)),
      this.child('resnets.1', resnet(channels, channels, norm_num_groups)),
    ];
  }

  forward(x: tf.Tensor4D): tf.Tensor4D {
    const [first, second] = this.#resnets;
    return chain(x, [
      (h) => first.forward(h, null),
      (h) => this.#attention?.forward(h) ?? tf.clone(h),
      (h) => second.forward(h, null),
    ]);
  }
}

/** Residual blocks and a resampling layer: `DownEncoderBlock2D` or `UpDecoderBlock2D`. */
class Level extends Module {
  readonly #resnets: readonly ResnetBlock2D[];
  readonly #resample: Downsample2D | Upsample2D | null;

  constructor(
    inChannels: number,
    outChannels: number,
    layers: number,
    groups: number,
    resample: 'downsamplers.0' | 'upsamplers.0' | null,
  ) {
    super();
    this.#resnets = this.children(
      'resnets',
      Array.from({ length: layers }, (_, i) =>
        resnet(i === 0 ? inChannels : outChannels, outChannels, groups),
      ),
    );
    // Unlike the UNet's, the encoder's downsampling pads the right and the bottom only.
    const pad: [[number, number], [number, number]] = [
      [0, 1],
      [0, 1],
    ];
    this.#resample =
      resample === null
        ? null
        : this.child(
            resample,
            resample === 'upsamplers.0' ? new Upsample2D(outChannels) : new Downsample2D(outChannels, pad),
          );
  }

  forward(x: tf.Tensor4D): tf.Tensor4D {
    const steps = this.#resnets.map((block) => (h: tf.Tensor4D) => block.forward(h, null));
    const resample = this.#resample;
    if (resample !== null) steps.push((h) => resample.forward(h));
    return chain(x, steps);
  }
}

/** Image [B,H,W,in] -> moments [B,H/2^k,W/2^k,2*latent]. */
export class Encoder extends Module {
  readonly #convIn: Conv2d;
  readonly #downBlocks: readonly Level[];
  readonly #midBlock: MidBlock;
  readonly #convNormOut: GroupNorm;
  readonly #convOut: Conv2d;

  constructor(config: AutoencoderConfig) {
    super();
    const { block_out_channels: widths, layers_per_block, norm_num_groups: groups, latent_channels } = config;
    const last = widths[widths.length - 1]!;
    this.#convIn = this.child('conv_in', new Conv2d(config.in_channels, widths[0]!, { kernel: 3 }));
    this.#downBlocks = this.children(
      'down_blocks',
      widths.map((width, level) => {
        const resample = level === widths.length - 1 ? null : 'downsamplers.0';
        return new Level(widths[Math.max(0, level - 1)]!, width, layers_per_block, groups, resample);
      }),
    );
    this.#midBlock = this.child('mid_block', new MidBlock(last, config));
    this.#convNormOut = this.child('conv_norm_out', new GroupNorm(last, groups, EPSILON));
    this.#convOut = this.child('conv_out', new Conv2d(last, 2 * latent_channels, { kernel: 3 }));
  }

  forward(x: tf.Tensor4D): tf.Tensor4D {
    return tf.tidy(() =>
      chain(x, [
        (h) => this.#convIn.forward(h),
        ...this.#downBlocks.map((block) => (h: tf.Tensor4D) => block.forward(h)),
        (h) => this.#midBlock.forward(h),
        (h) => this.#convNormOut.forward(h, 'silu'),
        (h) => this.#convOut.forward(h, null, { wide: true }),
      ]),
    );
  }
}

/** Latents [B,h,w,latent] -> image [B,h*2^k,w*2^k,out]. */
export class Decoder extends Module {
  readonly #convIn: Conv2d;
  readonly #midBlock: MidBlock;
  readonly #upBlocks: readonly Level[];
  readonly #convNormOut: GroupNorm;
  readonly #convOut: Conv2d;

  constructor(config: AutoencoderConfig) {
    super();
    const { layers_per_block, norm_num_groups: groups, latent_channels, out_channels } = config;
    const widths = [...config.block_out_channels].reverse();
    const [first, last] = [widths[0]!, widths[widths.length - 1]!];
    this.#convIn = this.child('conv_in', new Conv2d(latent_channels, first, { kernel: 3 }));
    this.#upBlocks = this.children(
      'up_blocks',
      widths.map((width, level) => {
        const resample = level === widths.length - 1 ? null : 'upsamplers.0';
        return new Level(widths[Math.max(0, level - 1)]!, width, layers_per_block + 1, groups, resample);
      }),
    );
    this.#midBlock = this.child('mid_block', new MidBlock(first, config));
    this.#convNormOut = this.child('conv_norm_out', new GroupNorm(last, groups, EPSILON));
    this.#convOut = this.child('conv_out', new Conv2d(last, out_channels, { kernel: 3 }));
  }

  forward(z: tf.Tensor4D): tf.Tensor4D {
    return tf.tidy(() =>
      chain(z, [
        (h) => this.#convIn.forward(h),
        (h) => this.#midBlock.forward(h),
        ...this.#upBlocks.map((block) => (h: tf.Tensor4D) => block.forward(h)),
        (h) => this.#convNormOut.forward(h, 'silu'),
        (h) => this.#convOut.forward(h, null, { wide: true }),
      ]),
    );
  }
}
