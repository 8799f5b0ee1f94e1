/**
 * The configs of the embedded model, as they stand in its diffusers folder. Widths are chosen so that all
 * weights together stay below 16 MB in two-byte formats and training fits two hours on two processor cores.
 */
import { IMAGE_SIZE } from '../world/attributes.js';

/** Tokens of a prompt, start and end included. */
export const TEXT_LENGTH = 32;
/** Width of the text states, and of CLIP's shared space. */
export const TEXT_WIDTH = 128;
/** Side and channels of a latent. */
export const LATENT_SIZE = 16;
export const LATENT_CHANNELS = 4;

const DIFFUSERS_VERSION = '0.31.0';

/** `vae/config.json`. `scalingFactor` makes the training latents' standard deviation 1. */
export function vaeConfig(scalingFactor: number): Record<string, unknown> {
  return {
    _class_name: 'AutoencoderKL',
    _diffusers_version: DIFFUSERS_VERSION,
    act_fn: 'silu',
    block_out_channels: [16, 32, 64],
    down_block_types: ['DownEncoderBlock2D', 'DownEncoderBlock2D', 'DownEncoderBlock2D'],
    force_upcast: false,
    in_channels: 3,
    latent_channels: LATENT_CHANNELS,
    layers_per_block: 1,
    mid_block_add_attention: false,
    norm_num_groups: 8,
    out_channels: 3,
    sample_size: IMAGE_SIZE,
    scaling_factor: scalingFactor,
    up_block_types: ['UpDecoderBlock2D', 'UpDecoderBlock2D', 'UpDecoderBlock2D'],
  };
}

/** `unet/config.json`. */
export function unetConfig(): Record<string, unknown> {
  return {
    _class_name: 'UNet2DConditionModel',
    _diffusers_version: DIFFUSERS_VERSION,
    act_fn: 'silu',
    attention_head_dim: [2, 4],
    block_out_channels: [48, 112],
    center_input_sample: false,
    cross_attention_dim: TEXT_WIDTH,
    down_block_types: ['DownBlock2D', 'CrossAttnDownBlock2D'],
    downsample_padding: 1,
    flip_sin_to_cos: true,
    freq_shift: 0,
    in_channels: LATENT_CHANNELS,
    layers_per_block: 1,
    mid_block_scale_factor: 1,
    norm_eps: 1e-5,
    norm_num_groups: 16,
    out_channels: LATENT_CHANNELS,
    sample_size: LATENT_SIZE,
    up_block_types: ['CrossAttnUpBlock2D', 'UpBlock2D'],
    use_linear_projection: true,
  };
}

/** Numbers of the vocabulary that the text config repeats. */
export interface VocabularyIds {
  readonly size: number;
  readonly start: number;
  readonly end: number;
}

function textSection(vocabulary: VocabularyIds): Record<string, unknown> {
  return {
    attention_dropout: 0,
    bos_token_id: vocabulary.start,
    eos_token_id: vocabulary.end,
    hidden_act: 'quick_gelu',
    hidden_size: TEXT_WIDTH,
    initializer_factor: 1,
    initializer_range: 0.02,
    intermediate_size: TEXT_WIDTH * 4,
    layer_norm_eps: 1e-5,
    max_position_embeddings: TEXT_LENGTH,
    num_attention_heads: TEXT_WIDTH / 32,
    num_hidden_layers: 3,
    pad_token_id: vocabulary.end,
    projection_dim: TEXT_WIDTH,
    vocab_size: vocabulary.size,
  };
}

/** `text_encoder/config.json`. */
export function textEncoderConfig(vocabulary: VocabularyIds): Record<string, unknown> {
  return { architectures: ['CLIPTextModel'], model_type: 'clip_text_model', ...textSection(vocabulary) };
}

/** `clip/config.json`: both towers. */
export function clipConfig(vocabulary: VocabularyIds): Record<string, unknown> {
  return {
    architectures: ['CLIPModel'],
    logit_scale_init_value: 3.2189,
    model_type: 'clip',
    projection_dim: TEXT_WIDTH,
    text_config: { model_type: 'clip_text_model', ...textSection(vocabulary) },
    vision_config: {
      attention_dropout: 0,
      hidden_act: 'quick_gelu',
      hidden_size: TEXT_WIDTH,
      image_size: IMAGE_SIZE,
      initializer_factor: 1,
      initializer_range: 0.02,
      intermediate_size: TEXT_WIDTH * 4,
      layer_norm_eps: 1e-5,
      model_type: 'clip_vision_model',
      num_attention_heads: TEXT_WIDTH / 32,
      num_channels: 3,
      num_hidden_layers: 3,
      patch_size: 8,
      projection_dim: TEXT_WIDTH,
    },
  };
}

/** `scheduler/scheduler_config.json`: Stable Diffusion's noise schedule. */
export function schedulerConfig(): Record<string, unknown> {
  return {
    _class_name: 'DDIMScheduler',
    _diffusers_version: DIFFUSERS_VERSION,
    beta_end: 0.012,
    beta_schedule: 'scaled_linear',
    beta_start: 0.00085,
    clip_sample: false,
    num_train_timesteps: 1000,
    prediction_type: 'epsilon',
    set_alpha_to_one: false,
    steps_offset: 1,
    timestep_spacing: 'leading',
    trained_betas: null,
  };
}

/** `clip/preprocessor_config.json`: pictures go in at their own size, scaled to [-1, 1]. */
export function preprocessorConfig(): Record<string, unknown> {
  const side = { height: IMAGE_SIZE, width: IMAGE_SIZE };
  return {
    crop_size: side,
    do_center_crop: true,
    do_convert_rgb: true,
    do_normalize: true,
    do_rescale: true,
    do_resize: true,
    feature_extractor_type: 'CLIPFeatureExtractor',
    image_mean: [0.5, 0.5, 0.5],
    image_processor_type: 'CLIPImageProcessor',
    image_std: [0.5, 0.5, 0.5],
    resample: 3,
    rescale_factor: 1 / 255,
    size: { shortest_edge: IMAGE_SIZE },
  };
}
