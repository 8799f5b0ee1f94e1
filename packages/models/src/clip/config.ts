/**
 * The options of the CLIP towers, by transformers' names.
 */
import {
  type ConfigSchema,
  depth,
  finite,
  integer,
  oneOf,
  type ParsedConfig,
  parseConfig,
  positive,
  requireConfig,
} from '../config.js';

export type ClipActivation = 'quick_gelu' | 'gelu';

/** What both towers have. */
export interface ClipTowerConfig {
  readonly hidden_size: number;
  readonly intermediate_size: number;
  readonly num_hidden_layers: number;
  readonly num_attention_heads: number;
  readonly hidden_act: ClipActivation;
  readonly layer_norm_eps: number;
  readonly projection_dim: number;
}

export interface ClipTextConfig extends ClipTowerConfig {
  readonly vocab_size: number;
  readonly max_position_embeddings: number;
  /** 2, a mistake in old configs, selects the position of the largest id as the end of the text. */
  readonly eos_token_id: number;
}

export interface ClipVisionConfig extends ClipTowerConfig {
  readonly num_channels: number;
  readonly image_size: number;
  readonly patch_size: number;
}

export interface ClipConfig {
  readonly text: ClipTextConfig;
  readonly vision: ClipVisionConfig;
  readonly projection_dim: number;
  readonly logit_scale_init_value: number;
}

const activation = oneOf('quick_gelu', 'gelu');

const TRANSFORMERS_KEYS = [
  'transformers_version',
  'torch_dtype',
  'dtype',
  'output_hidden_states',
  'output_attentions',
  'return_dict',
  'chunk_size_feed_forward',
  'is_encoder_decoder',
  'id2label',
  'label2id',
  'problem_type',
  'initializer_range',
  'initializer_factor',
  'attention_dropout',
  'dropout',
  'bos_token_id',
  'pad_token_id',
  'use_cache',
  'is_decoder',
  'attn_implementation',
  '_attn_implementation_autoset',
  'gradient_checkpointing',
];

const TEXT: ConfigSchema<ClipTextConfig> = {
  className: 'CLIPTextModel',
  aliases: ['CLIPTextModelWithProjection', 'CLIPModel'],
  modelTypes: ['clip_text_model', 'clip'],
  fields: {
    vocab_size: { read: integer(1), fallback: 49408 },
    hidden_size: { read: integer(1), fallback: 512 },
    intermediate_size: { read: integer(1), fallback: 2048 },
    num_hidden_layers: { read: depth, fallback: 12 },
    num_attention_heads: { read: integer(1), fallback: 8 },
    max_position_embeddings: { read: integer(1), fallback: 77 },
    hidden_act: { read: activation, fallback: 'quick_gelu' },
    layer_norm_eps: { read: positive, fallback: 1e-5 },
    projection_dim: { read: integer(1), fallback: 512 },
    eos_token_id: { read: integer(0), fallback: 49407 },
  },
  // With it pipelines would mask the padding; none of the supported models was trained that way.
  only: { use_attention_mask: [false, null] },
  ignored: TRANSFORMERS_KEYS,
};

const VISION: ConfigSchema<ClipVisionConfig> = {
  className: 'CLIPVisionModel',
  aliases: ['CLIPVisionModelWithProjection', 'CLIPModel'],
  modelTypes: ['clip_vision_model', 'clip'],
  fields: {
    hidden_size: { read: integer(1), fallback: 768 },
    intermediate_size: { read: integer(1), fallback: 3072 },
    num_hidden_layers: { read: depth, fallback: 12 },
    num_attention_heads: { read: integer(1), fallback: 12 },
    num_channels: { read: integer(1), fallback: 3 },
    image_size: { read: integer(1), fallback: 224 },
    patch_size: { read: integer(1), fallback: 32 },
    hidden_act: { read: activation, fallback: 'quick_gelu' },
    layer_norm_eps: { read: positive, fallback: 1e-5 },
    projection_dim: { read: integer(1), fallback: 512 },
  },
  ignored: TRANSFORMERS_KEYS,
};

const CLIP: ConfigSchema<Omit<ClipConfig, 'text' | 'vision'>> = {
  className: 'CLIPModel',
  modelTypes: ['clip'],
  fields: {
    projection_dim: { read: integer(1), fallback: 512 },
    logit_scale_init_value: { read: finite, fallback: 2.6592 },
  },
  ignored: ['text_config', 'vision_config', 'text_config_dict', 'vision_config_dict', ...TRANSFORMERS_KEYS],
};

/**
 * Checks a text tower's config. The config of a whole `CLIPModel` is accepted too; its `text_config` is read.
 */
export function parseClipTextConfig(source: unknown, where?: string): ParsedConfig<ClipTextConfig> {
  return parseTower(source, TEXT, 'text_config', where);
}

/**
 * Checks a vision tower's config. The config of a whole `CLIPModel` is accepted too; its `vision_config` is read.
 */
export function parseClipVisionConfig(source: unknown, where?: string): ParsedConfig<ClipVisionConfig> {
  const parsed = parseTower(source, VISION, 'vision_config', where);
  const { image_size, patch_size } = parsed.config;
  const name = `${where ?? VISION.className}: patch_size`;
  requireConfig(patch_size <= image_size, name, `at most the image size (${image_size})`, patch_size);
  return parsed;
}

/** Checks the config of a `CLIPModel`: both towers and what joins them. */
export function parseClipConfig(source: unknown, where: string = CLIP.className): ParsedConfig<ClipConfig> {
  const joint = parseConfig(source, CLIP, where);
  const { projection_dim } = joint.config;
  const tower = (section: string) => ({ projection_dim, [section]: joint.source[section] ?? {} });
  const text = parseClipTextConfig(tower('text_config'), where);
  const vision = parseClipVisionConfig(tower('vision_config'), where);
  return {
    config: { ...joint.config, text: text.config, vision: vision.config },
    warnings: [...joint.warnings, ...text.warnings, ...vision.warnings],
    source: joint.source,
  };
}

function parseTower<C extends ClipTowerConfig>(
  source: unknown,
  schema: ConfigSchema<C>,
  section: string,
  where: string = schema.className,
): ParsedConfig<C> {
  const whole = (typeof source === 'object' ? source : null) as Record<string, unknown> | null;
  const nested = whole?.[section];
  const joint = typeof nested === 'object' && nested !== null;
  // The projections of a whole model have its width; the towers' own setting may be stale.
  const width = whole?.projection_dim === undefined ? {} : { projection_dim: whole.projection_dim };
  const own = joint ? { ...nested, ...width } : source;
  const parsed = parseConfig(own, schema, joint ? `${where}: ${section}` : where);
  const { hidden_size, num_attention_heads } = parsed.config;
  const fits = hidden_size % num_attention_heads === 0;
  requireConfig(fits, `${where}: hidden_size`, `a multiple of the ${num_attention_heads} heads`, hidden_size);
  return parsed;
}
