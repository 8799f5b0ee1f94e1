/**
 * The options of `AutoencoderKL`, by diffusers' names.
 */
import {
  type ConfigSchema,
  depth,
  finite,
  flag,
  integer,
  listOf,
  nullable,
  oneOf,
  oneOrMany,
  type ParsedConfig,
  parseConfig,
  positive,
  requireConfig,
} from '../config.js';

export interface AutoencoderConfig {
  readonly in_channels: number;
  readonly out_channels: number;
  readonly down_block_types: readonly 'DownEncoderBlock2D'[];
  readonly up_block_types: readonly 'UpDecoderBlock2D'[];
  readonly block_out_channels: readonly number[];
  readonly layers_per_block: number;
  readonly latent_channels: number;
  readonly norm_num_groups: number;
  /** Side of the images it was trained on; also the tile of the tiled mode. */
  readonly sample_size: number | readonly number[];
  readonly scaling_factor: number;
  readonly shift_factor: number | null;
  readonly force_upcast: boolean;
  readonly use_quant_conv: boolean;
  readonly use_post_quant_conv: boolean;
  readonly mid_block_add_attention: boolean;
}

const SCHEMA: ConfigSchema<AutoencoderConfig> = {
  className: 'AutoencoderKL',
  fields: {
    in_channels: { read: integer(1), fallback: 3 },
    out_channels: { read: integer(1), fallback: 3 },
    down_block_types: { read: listOf(oneOf('DownEncoderBlock2D')), fallback: ['DownEncoderBlock2D'] },
    up_block_types: { read: listOf(oneOf('UpDecoderBlock2D')), fallback: ['UpDecoderBlock2D'] },
    block_out_channels: { read: listOf(integer(1)), fallback: [64] },
    layers_per_block: { read: depth, fallback: 1 },
    latent_channels: { read: integer(1), fallback: 4 },
    norm_num_groups: { read: integer(1), fallback: 32 },
    sample_size: { read: oneOrMany(integer(1)), fallback: 32 },
    scaling_factor: { read: positive, fallback: 0.18215 },
    shift_factor: { read: nullable(finite), fallback: null },
    force_upcast: { read: flag, fallback: true },
    use_quant_conv: { read: flag, fallback: true },
    use_post_quant_conv: { read: flag, fallback: true },
    mid_block_add_attention: { read: flag, fallback: true },
  },
  only: {
    act_fn: ['silu', 'swish'],
    latents_mean: [null],
    latents_std: [null],
  },
};

/** Checks an autoencoder's `config.json`; see {@link parseConfig}. */
export function parseAutoencoderConfig(source: unknown, where?: string): ParsedConfig<AutoencoderConfig> {
  const parsed = parseConfig(source, SCHEMA, where);
  const { config } = parsed;
  const prefix = where ?? SCHEMA.className;
  const count = config.block_out_channels.length;
  for (const key of ['down_block_types', 'up_block_types'] as const) {
    requireConfig(
      config[key].length === count,
      `${prefix}: ${key}`,
      `${count} entries, one for each block`,
      config[key],
    );
  }
  config.block_out_channels.forEach((channels, level) => {
    const expected = `a multiple of norm_num_groups (${config.norm_num_groups})`;
    const fits = channels % config.norm_num_groups === 0;
    requireConfig(fits, `${prefix}: block_out_channels[${level}]`, expected, channels);
  });
  return parsed;
}
