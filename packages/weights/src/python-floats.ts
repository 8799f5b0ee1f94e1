/** Numbers that Python's config classes want as floats, also when they are whole. */
import { type JsonValue, PyFloat, pyFloat } from '@equipoise/core';

/**
 * Float-typed settings of diffusers' and transformers' configs. JavaScript reads 1.0 as 1 and would write it
 * back as an integer, which transformers 5 refuses for a field declared as float.
 */
const FLOAT_KEYS = new Set([
  // transformers
  'attention_dropout',
  'dropout',
  'initializer_factor',
  'initializer_range',
  'layer_norm_eps',
  'logit_scale_init_value',
  // diffusers: models (not mid_block_scale_factor, whose default diffusers itself spells as an integer)
  'norm_eps',
  'resnet_out_scale_factor',
  'scaling_factor',
  'shift_factor',
  // diffusers: schedulers
  'beta_end',
  'beta_start',
  'clip_sample_range',
  'dynamic_thresholding_ratio',
  'sample_max_value',
]);

/** A copy of `config` with whole numbers marked as floats where Python has floats; nested objects too. */
export function withPythonFloats<T extends { readonly [key: string]: JsonValue | undefined }>(config: T): T {
  const entries = Object.entries(config).map(([key, value]) => {
    if (typeof value === 'number' && FLOAT_KEYS.has(key)) return [key, pyFloat(value)];
    const nested =
      typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof PyFloat);
    return [key, nested ? withPythonFloats(value as { readonly [key: string]: JsonValue }) : value];
  });
  return Object.fromEntries(entries) as T;
}
