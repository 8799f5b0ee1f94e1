/**
 * `UNet2DConditionModel`: the denoiser of Stable Diffusion 1.x, 2.x and XL, with diffusers' names and numbers.
 */
import { silu } from '@equipoise/backend';
import { invalid } from '@equipoise/core';
import * as tf from '@tensorflow/tfjs-core';
import { addBatched } from '../batch.js';
import { ConfiguredModel } from '../configured-model.js';
import { Conv2d, GroupNorm } from '../layers.js';
import { type BlockInputs, DownBlock, type LevelOptions, MidBlock, UpBlock } from './blocks.js';
import { parseUNetConfig, type UNetConfig, unetLevels } from './config.js';
import { CrossAttentionCache } from './cross-attention-cache.js';
import { sinusoidalEmbedding, TimestepEmbedding } from './time-embedding.js';
import { Transformer2DModel } from './transformer.js';

/** The additional conditioning of Stable Diffusion XL. */
export interface AddedConditions {
  /** Pooled text [B, width]. */
  readonly textEmbeds: tf.Tensor2D;
  /** For each image: original height and width, crop top and left, target height and width. */
  readonly timeIds: readonly (readonly number[])[];
}

export interface UNetOptions {
  /** Required where the config says `addition_embed_type: "text_time"`, refused elsewhere. */
  readonly added?: AddedConditions;
  /**
   * Gradient checkpointing: keep only the inputs of residual blocks and transformers, and recompute the rest
   * for the gradient. Less memory for about one more forward pass.
   */
  readonly recompute?: boolean;
}

export class UNet2DConditionModel extends ConfiguredModel<UNetConfig> {
  readonly #convIn: Conv2d;
  readonly #timeEmbedding: TimestepEmbedding;
  readonly #addEmbedding: TimestepEmbedding | null;
  readonly #downBlocks: readonly DownBlock[];
  readonly #midBlock: MidBlock;
  readonly #upBlocks: readonly UpBlock[];
  readonly #convNormOut: GroupNorm;
  readonly #convOut: Conv2d;

  /**
   * The architecture without weights; see {@link load} and {@link random}.
   *
   * @param config the parsed `config.json` of a diffusers `unet` folder
   * @throws EquipoiseError naming the class or option that is not supported
   */
  constructor(config: unknown, where?: string) {
    super(parseUNetConfig(config, where));
    const { block_out_channels: widths, in_channels, out_channels, norm_num_groups, norm_eps } = this.config;
    const [first, timeChannels] = [widths[0]!, widths[0]! * 4];
    this.#convIn = this.child('conv_in', new Conv2d(in_channels, first, { kernel: 3 }));
    this.#timeEmbedding = this.child('time_embedding', new TimestepEmbedding(first, timeChannels));
    const added = this.config.projection_class_embeddings_input_dim;
    this.#addEmbedding =
      this.config.addition_embed_type === null || added === null
        ? null
        : this.child('add_embedding', new TimestepEmbedding(added, timeChannels));
    this.#downBlocks = this.children('down_blocks', downBlocks(this.config));
    this.#upBlocks = this.children('up_blocks', upBlocks(this.config));
    this.#midBlock = this.child('mid_block', midBlock(this.config));
    this.#convNormOut = this.child('conv_norm_out', new GroupNorm(first, norm_num_groups, norm_eps));
    this.#convOut = this.child('conv_out', new Conv2d(first, out_channels, { kernel: 3 }));
  }

  /**
   * Projects a text once for all steps of a sampler. Free it with `dispose()`; make a new one after changing
   * weights or adapters. Gradients do not flow into it.
   *
   * @param context [T, L, cross_attention_dim]
   * @param rows which of the texts each batch element has; default: every text, in order
   */
  crossAttentionCache(context: tf.Tensor3D, rows?: readonly number[]): CrossAttentionCache {
    this.#checkContext(context);
    const texts = context.shape[0];
    if (rows?.every((row) => Number.isInteger(row) && row >= 0 && row < texts) === false)
      throw invalid('rows', `integers from 0 to ${texts - 1}`, rows);
    const transformers: Transformer2DModel[] = [];
    for (const [, module] of this.namedModules()) {
      if (module instanceof Transformer2DModel) transformers.push(module);
    }
    return CrossAttentionCache.project(transformers, context, rows);
  }

  /**
   * Predicts the noise (or velocity) in `sample`.
   *
   * The batch of the text may be a multiple of the batch of `sample`: with guidance, [uncond; cond] for one
   * latent. The part before the first cross-attention is then computed once and repeated, which changes no
   * number.
   *
   * @param sample noisy latents, channels last: [A, H, W, in_channels]
   * @param timestep one for all, or one for each latent (A of them) or each text (B); or their
   * {@link timestepFeatures}, a row for each
   * @param context text embeddings [B, L, cross_attention_dim], or a {@link crossAttentionCache} of them
   * @returns [B, H, W, out_channels]
   */
  forward(
    sample: tf.Tensor4D,
    timestep: number | readonly number[] | tf.Tensor2D,
    context: tf.Tensor3D | CrossAttentionCache,
    options: UNetOptions = {},
  ): tf.Tensor4D {
    this.#checkSample(sample);
    if (context instanceof tf.Tensor) this.#checkContext(context);
    if (timestep instanceof tf.Tensor) this.#checkFeatures(timestep);
    const times = timestep instanceof tf.Tensor ? timestep.shape[0] : [timestep].flat().length;
    checkBatches(sample.shape[0], times, context, options.added);
    return tf.tidy(() => {
      const time = tf.tidy(() =>
        this.#embedTime(
          timestep instanceof tf.Tensor ? timestep : this.timestepFeatures([timestep].flat()),
          options.added,
        ),
      );
      const inputs: BlockInputs = { time, context, recompute: options.recompute ?? false };
      let h = this.#convIn.forward(sample);
      const skips = [h];
      for (const block of this.#downBlocks) {
        skips.push(...block.forward(h, inputs));
        h = skips[skips.length - 1]!;
      }
      h = this.#midBlock.forward(h, inputs);
      for (const block of this.#upBlocks) h = block.forward(h, skips, inputs);
      return this.#convOut.forward(this.#convNormOut.forward(h, 'silu'), null, { wide: true });
    });
  }

  /**
   * The sinusoids of timesteps [times.length, block_out_channels[0]], all that the model sees of them. Given to
   * {@link forward} in their place they are a tensor like any other, which a recording of it may take as an input.
   */
  timestepFeatures(times: readonly number[]): tf.Tensor2D {
    if (!times.every(Number.isFinite)) throw invalid('timestep', 'finite numbers', times);
    const { flip_sin_to_cos: flipSinToCos, freq_shift: freqShift, block_out_channels } = this.config;
    return sinusoidalEmbedding(times, { dim: block_out_channels[0]!, flipSinToCos, freqShift });
  }

  /** SiLU of the time embedding: what every residual block starts from. */
  #embedTime(features: tf.Tensor2D, added: AddedConditions | undefined): tf.Tensor2D {
    const embedding = this.#timeEmbedding.forward(features);
    if (this.#addEmbedding === null) {
      if (added !== undefined)
        throw invalid('added', 'nothing: this model takes no additional conditioning', 'added');
      return silu(embedding);
    }
    return silu(addBatched(embedding, this.#embedAdded(this.#addEmbedding, added)));
  }

  #embedAdded(layer: TimestepEmbedding, added: AddedConditions | undefined): tf.Tensor2D {
    const {
      flip_sin_to_cos: flipSinToCos,
      freq_shift: freqShift,
      addition_time_embed_dim: dim,
    } = this.config;
    if (added === undefined) throw invalid('added', 'textEmbeds and timeIds: this model needs them', added);
    const { textEmbeds, timeIds } = added;
    if (timeIds.length !== textEmbeds.shape[0])
      throw invalid('timeIds', `${textEmbeds.shape[0]} rows`, timeIds.length);
    const sizes = sinusoidalEmbedding(timeIds.flat(), { dim: dim as number, flipSinToCos, freqShift });
    const rows = tf.reshape(sizes, [timeIds.length, sizes.size / timeIds.length]) as tf.Tensor2D;
    const width = this.config.projection_class_embeddings_input_dim as number;
    const actual = textEmbeds.shape[1] + rows.shape[1];
    if (actual !== width) throw invalid('added', `text and sizes of width ${width} together`, actual);
    return layer.forward(tf.concat([textEmbeds, rows], 1));
  }

  #checkSample(sample: tf.Tensor4D): void {
    const channels = this.config.in_channels;
    if (sample.rank !== 4 || sample.shape[3] !== channels || sample.size === 0) {
      throw invalid('sample', `latents [B, H, W, ${channels}]`, sample.shape);
    }
  }

  #checkFeatures(features: tf.Tensor2D): void {
    const width = this.config.block_out_channels[0]!;
    if (features.rank !== 2 || features.shape[1] !== width)
      throw invalid('timestep', `features [timesteps, ${width}]`, features.shape);
  }

  #checkContext(context: tf.Tensor3D): void {
    const width = this.config.cross_attention_dim;
    if (context.rank !== 3 || context.shape[2] !== width)
      throw invalid('context', `[B, L, ${width}]`, context.shape);
  }
}

/** The text's batch is a whole multiple of the latents'; everything else has one of the two, or one row. */
function checkBatches(
  latents: number,
  times: number,
  context: tf.Tensor3D | CrossAttentionCache,
  added: AddedConditions | undefined,
): void {
  const texts = context instanceof tf.Tensor ? context.shape[0] : context.batch;
  if (texts === 0 || texts % latents !== 0) throw invalid('context', `a multiple of ${latents} texts`, texts);
  const counts = [1, latents, texts];
  if (!counts.includes(times)) throw invalid('timestep', `${counts.join(' or ')} numbers`, times);
  const rows = added?.textEmbeds.shape[0] ?? 1;
  if (!counts.includes(rows)) throw invalid('added: textEmbeds', `${counts.join(' or ')} rows`, rows);
}

function levelOptions(config: UNetConfig, level: number, attends: boolean): LevelOptions {
  const { heads, transformerLayers } = unetLevels(config);
  return {
    timeChannels: config.block_out_channels[0]! * 4,
    groups: config.norm_num_groups,
    epsilon: config.norm_eps,
    attention: attends
      ? {
          contextChannels: config.cross_attention_dim,
          heads: heads[level]!,
          layers: transformerLayers[level]!,
          linearProjection: config.use_linear_projection,
        }
      : null,
  };
}

function downBlocks(config: UNetConfig): DownBlock[] {
  const { layers } = unetLevels(config);
  const widths = config.block_out_channels;
  return config.down_block_types.map((type, level) => {
    const options = levelOptions(config, level, type === 'CrossAttnDownBlock2D');
    const last = level === widths.length - 1;
    return new DownBlock(widths[Math.max(0, level - 1)]!, widths[level]!, layers[level]!, !last, options);
  });
}

function midBlock(config: UNetConfig): MidBlock {
  const level = config.block_out_channels.length - 1;
  const options = levelOptions(config, level, true);
  return new MidBlock(config.block_out_channels[level]!, { ...options, attention: options.attention! });
}

function upBlocks(config: UNetConfig): UpBlock[] {
  const { layers } = unetLevels(config);
  const widths = config.block_out_channels;
  return config.up_block_types.map((type, index) => {
    const level = widths.length - 1 - index;
    const options = levelOptions(config, level, type === 'CrossAttnUpBlock2D');
    const channels = {
      previous: widths[Math.min(widths.length - 1, level + 1)]!,
      skip: widths[Math.max(0, level - 1)]!,
      out: widths[level]!,
    };
    return new UpBlock(channels, layers[level]! + 1, level !== 0, options);
  });
}
