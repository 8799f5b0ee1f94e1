/**
 * The options of `UNet2DConditionModel`, by diffusers' names.
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
  perBlock,
  positive,
  requireConfig,
} from '../config.js';

export type DownBlockType = 'CrossAttnDownBlock2D' | 'DownBlock2D';
export type UpBlockType = 'CrossAttnUpBlock2D' | 'UpBlock2D';

export interface UNetConfig {
  readonly sample_size: number | readonly number[] | null;
  readonly in_channels: number;
  readonly out_channels: number;
  readonly flip_sin_to_cos: boolean;
  readonly freq_shift: number;
  readonly down_block_types: readonly DownBlockType[];
  readonly up_block_types: readonly UpBlockType[];
  readonly block_out_channels: readonly number[];
  readonly layers_per_block: number | readonly number[];
  readonly norm_num_groups: number;
  readonly norm_eps: number;
  readonly cross_attention_dim: number;
  readonly transformer_layers_per_block: number | readonly number[];
  /** Despite its name the number of heads: diffusers keeps the mistake, and so do its checkpoints. */
  readonly attention_head_dim: number | readonly number[];
  readonly use_linear_projection: boolean;
  readonly addition_embed_type: 'text_time' | null;
  readonly addition_time_embed_dim: number | null;
  readonly projection_class_embeddings_input_dim: number | null;
}

const SCHEMA: ConfigSchema<UNetConfig> = {
  className: 'UNet2DConditionModel',
  fields: {
    sample_size: { read: nullable(oneOrMany(integer(1))), fallback: null },
    in_channels: { read: integer(1), fallback: 4 },
    out_channels: { read: integer(1), fallback: 4 },
    flip_sin_to_cos: { read: flag, fallback: true },
    freq_shift: { read: finite, fallback: 0 },
    down_block_types: {
      read: listOf(oneOf('CrossAttnDownBlock2D', 'DownBlock2D')),
      fallback: ['CrossAttnDownBlock2D', 'CrossAttnDownBlock2D', 'CrossAttnDownBlock2D', 'DownBlock2D'],
    },
    up_block_types: {
      read: listOf(oneOf('CrossAttnUpBlock2D', 'UpBlock2D')),
      fallback: ['UpBlock2D', 'CrossAttnUpBlock2D', 'CrossAttnUpBlock2D', 'CrossAttnUpBlock2D'],
    },
    block_out_channels: { read: listOf(integer(1)), fallback: [320, 640, 1280, 1280] },
    layers_per_block: { read: oneOrMany(depth), fallback: 2 },
    norm_num_groups: { read: integer(1), fallback: 32 },
    norm_eps: { read: positive, fallback: 1e-5 },
    cross_attention_dim: { read: integer(1), fallback: 1280 },
    transformer_layers_per_block: { read: oneOrMany(depth), fallback: 1 },
    attention_head_dim: { read: oneOrMany(integer(1)), fallback: 8 },
    use_linear_projection: { read: flag, fallback: false },
    addition_embed_type: { read: nullable(oneOf('text_time')), fallback: null },
    addition_time_embed_dim: { read: nullable(integer(2)), fallback: null },
    projection_class_embeddings_input_dim: { read: nullable(integer(1)), fallback: null },
  },
  only: {
    act_fn: ['silu', 'swish'],
    mid_block_type: ['UNetMidBlock2DCrossAttn'],
    center_input_sample: [false],
    only_cross_attention: [false],
    mid_block_only_cross_attention: [null, false],
    dual_cross_attention: [false],
    downsample_padding: [1],
    mid_block_scale_factor: [1],
    dropout: [0],
    num_attention_heads: [null],
    reverse_transformer_layers_per_block: [null],
    encoder_hid_dim: [null],
    encoder_hid_dim_type: [null],
    class_embed_type: [null],
    num_class_embeds: [null],
    resnet_time_scale_shift: ['default'],
    resnet_skip_time_act: [false],
    resnet_out_scale_factor: [1],
    time_embedding_type: ['positional'],
    time_embedding_dim: [null],
    time_embedding_act_fn: [null],
    timestep_post_act: [null],
    time_cond_proj_dim: [null],
    conv_in_kernel: [3],
    conv_out_kernel: [3],
    attention_type: ['default'],
    class_embeddings_concat: [false],
    cross_attention_norm: [null],
  },
  // Scores and softmax are always computed in f32 here, so upcasting them changes nothing.
  ignored: ['upcast_attention', 'addition_embed_type_num_heads'],
};

/** Checks a UNet's `config.json`; see {@link parseConfig}. */
export function parseUNetConfig(source: unknown, where?: string): ParsedConfig<UNetConfig> {
  const parsed = parseConfig(source, SCHEMA, where);
  checkUNetConfig(parsed.config, where ?? SCHEMA.className);
  return parsed;
}

/** The per-block settings spelt out. */
export interface UNetLevels {
  readonly layers: readonly number[];
  readonly heads: readonly number[];
  readonly transformerLayers: readonly number[];
}

export function unetLevels(config: UNetConfig, where = SCHEMA.className): UNetLevels {
  const count = config.down_block_types.length;
  return {
    layers: perBlock(config.layers_per_block, count, `${where}: layers_per_block`),
    heads: perBlock(config.attention_head_dim, count, `${where}: attention_head_dim`),
    transformerLayers: perBlock(
      config.transformer_layers_per_block,
      count,
      `${where}: transformer_layers_per_block`,
    ),
  };
}

function checkUNetConfig(config: UNetConfig, where: string): void {
  const count = config.down_block_types.length;
  for (const key of ['up_block_types', 'block_out_channels'] as const) {
    requireConfig(
      config[key].length === count,
      `${where}: ${key}`,
      `${count} entries, one for each block`,
      config[key],
    );
  }
  const { heads } = unetLevels(config, where);
  config.block_out_channels.forEach((channels, level) => {
    const [name, groups] = [`${where}: block_out_channels[${level}]`, config.norm_num_groups];
    requireConfig(channels % groups === 0, name, `a multiple of norm_num_groups (${groups})`, channels);
    requireConfig(channels % heads[level]! === 0, name, `a multiple of the ${heads[level]} heads`, channels);
  });
  const first = config.block_out_channels[0]!;
  requireConfig(first % 2 === 0, `${where}: block_out_channels[0]`, 'an even number', first);
  if (config.addition_embed_type === null) return;
  for (const key of ['addition_time_embed_dim', 'projection_class_embeddings_input_dim'] as const) {
    requireConfig(
      config[key] !== null,
      `${where}: ${key}`,
      'a number, with addition_embed_type "text_time"',
      null,
    );
  }
}
