/**
 * `AutoencoderKL`: images to latents and back, with diffusers' names and numbers.
 */
import { invalid } from '@equipoise/core';
import * as tf from '@tensorflow/tfjs-core';
import { ConfiguredModel } from '../configured-model.js';
import { PointwiseConv } from '../layers.js';
import { Decoder, Encoder } from './blocks.js';
import { type AutoencoderConfig, parseAutoencoderConfig } from './config.js';
import { mapTiles } from './tiling.js';

/** The distribution of latents that the encoder assigns to an image: a normal per element. */
export class DiagonalGaussian {
  /** @param moments means and log-variances on the channel axis [B,h,w,2*latent]; owned by this object */
  constructor(readonly moments: tf.Tensor4D) {}

  /** The most likely latents [B,h,w,latent]. */
  mode(): tf.Tensor4D {
    return tf.tidy(() => this.#split()[0]);
  }

  /** mean + exp(logvar / 2) * noise, with the log-variance clamped to [-30, 20]. */
  sample(noise: tf.Tensor4D): tf.Tensor4D {
    return tf.tidy(() => {
      const [mean, logVariance] = this.#split();
      const deviation = tf.exp(tf.mul(tf.clipByValue(logVariance, -30, 20), 0.5));
      return tf.add(mean, tf.mul(deviation, noise));
    });
  }

  #split(): [tf.Tensor4D, tf.Tensor4D] {
    return tf.split(this.moments, 2, 3) as [tf.Tensor4D, tf.Tensor4D];
  }

  dispose(): void {
    this.moments.dispose();
  }
}

export interface TilingOptions {
  /** Side of a tile in pixels; the config's `sample_size` by default. */
  readonly tileSize?: number;
  /** Share of a tile that overlaps its neighbour, from 0 to below 1. Default 0.25. */
  readonly overlap?: number;
}

export class AutoencoderKL extends ConfiguredModel<AutoencoderConfig> {
  readonly #encoder: Encoder;
  readonly #decoder: Decoder;
  readonly #quantConv: PointwiseConv | null;
  readonly #postQuantConv: PointwiseConv | null;

  /** The architecture without weights, from the `config.json` of a diffusers `vae` folder. */
  constructor(config: unknown, where?: string) {
    super(parseAutoencoderConfig(config, where));
    const { latent_channels: latent, use_quant_conv, use_post_quant_conv } = this.config;
    this.#encoder = this.child('encoder', new Encoder(this.config));
    this.#decoder = this.child('decoder', new Decoder(this.config));
    this.#quantConv = use_quant_conv
      ? this.child('quant_conv', new PointwiseConv(2 * latent, 2 * latent))
      : null;
    this.#postQuantConv = use_post_quant_conv
      ? this.child('post_quant_conv', new PointwiseConv(latent, latent))
      : null;
  }

  /** Pixels per latent position along each side. */
  get downscale(): number {
    return 2 ** (this.config.block_out_channels.length - 1);
  }

  /**
   * The latents' distribution for images in [-1, 1].
   *
   * @param images [B, H, W, in_channels], sides multiples of {@link downscale}
   */
  encode(images: tf.Tensor4D): DiagonalGaussian {
    this.#checkImages(images);
    return new DiagonalGaussian(tf.tidy(() => this.#moments(images)));
  }

  /** {@link encode} in overlapping tiles, for images that do not fit in memory. */
  encodeTiled(images: tf.Tensor4D, options: TilingOptions = {}): DiagonalGaussian {
    this.#checkImages(images);
    const { pixels, latents, overlap } = this.#tiles(options);
    const blended = Math.trunc(latents * overlap);
    const tiling = {
      tile: pixels,
      stride: Math.trunc(pixels * (1 - overlap)),
      overlap: blended,
      keep: latents - blended,
    };
    return new DiagonalGaussian(mapTiles(images, tiling, (tile) => this.#moments(tile)));
  }

  /**
   * Images, nominally in [-1, 1] but not clamped, from unscaled latents (see {@link fromModelLatents}).
   *
   * @param latents [B, h, w, latent_channels]
   */
  decode(latents: tf.Tensor4D): tf.Tensor4D {
    this.#checkLatents(latents);
    return tf.tidy(() => this.#images(latents));
  }

  /** {@link decode} in overlapping tiles, for images that do not fit in memory. */
  decodeTiled(latents: tf.Tensor4D, options: TilingOptions = {}): tf.Tensor4D {
    this.#checkLatents(latents);
    const tiles = this.#tiles(options);
    const blended = Math.trunc(tiles.pixels * tiles.overlap);
    const stride = Math.trunc(tiles.latents * (1 - tiles.overlap));
    const tiling = { tile: tiles.latents, stride, overlap: blended, keep: tiles.pixels - blended };
    return mapTiles(latents, tiling, (tile) => this.#images(tile));
  }

  /** What the denoiser works on: (z - shift_factor) * scaling_factor. */
  toModelLatents(z: tf.Tensor4D): tf.Tensor4D {
    return tf.tidy(() => tf.mul(tf.sub(z, this.config.shift_factor ?? 0), this.config.scaling_factor));
  }

  /** The inverse of {@link toModelLatents}. */
  fromModelLatents(latents: tf.Tensor4D): tf.Tensor4D {
    return tf.tidy(() => tf.add(tf.div(latents, this.config.scaling_factor), this.config.shift_factor ?? 0));
  }

  #moments(images: tf.Tensor4D): tf.Tensor4D {
    const encoded = this.#encoder.forward(images);
    if (this.#quantConv === null) return encoded;
    return this.#quantConv.forward(encoded, 'none', { wide: true }) as tf.Tensor4D;
  }

  #images(latents: tf.Tensor4D): tf.Tensor4D {
    const z = this.#postQuantConv === null ? latents : (this.#postQuantConv.forward(latents) as tf.Tensor4D);
    return this.#decoder.forward(z);
  }

  #tiles(options: TilingOptions): { pixels: number; latents: number; overlap: number } {
    const { sample_size } = this.config;
    const side = typeof sample_size === 'number' ? sample_size : sample_size[0]!;
    const { tileSize: pixels = side, overlap = 0.25 } = options;
    if (!Number.isSafeInteger(pixels) || pixels < this.downscale) {
      throw invalid('tileSize', `an integer of at least ${this.downscale} pixels`, pixels);
    }
    if (!(overlap >= 0 && overlap < 1)) throw invalid('overlap', 'a share from 0 to below 1', overlap);
    const latents = Math.trunc(pixels / this.downscale);
    if (Math.trunc(latents * (1 - overlap)) < 1) throw invalid('overlap', 'less than a whole tile', overlap);
    return { pixels, latents, overlap };
  }

  #checkImages(images: tf.Tensor4D): void {
    const [channels, unit] = [this.config.in_channels, this.downscale];
    const fits = images.rank === 4 && images.shape[3] === channels && images.size > 0;
    if (!fits || images.shape[1] % unit !== 0 || images.shape[2] % unit !== 0) {
      throw invalid(
        'images',
        `[B, H, W, ${channels}] with sides that are multiples of ${unit}`,
        images.shape,
      );
    }
  }

  #checkLatents(latents: tf.Tensor4D): void {
    const channels = this.config.latent_channels;
    if (latents.rank !== 4 || latents.shape[3] !== channels || latents.size === 0) {
      throw invalid('latents', `[B, h, w, ${channels}]`, latents.shape);
    }
  }
}
