/** The settings of an adapter: PEFT's adapter_config.json, and the copy of it in diffusers' metadata. */
import { EquipoiseError, invalid } from '@equipoise/core';

/** What of a LoraConfig decides how an adapter computes. Unknown fields are ignored, as versions add them. */
export interface AdapterConfig {
  readonly r?: number;
  readonly loraAlpha?: number;
  readonly useDora: boolean;
  readonly useRslora: boolean;
  readonly rankPattern: Readonly<Record<string, number>>;
  readonly alphaPattern: Readonly<Record<string, number>>;
  readonly targetModules?: string | readonly string[];
  readonly baseModel?: string;
}

/**
 * Reads the fields of a LoraConfig.
 *
 * @param source names the file in errors
 * @throws EquipoiseError `corrupt` for wrong types, `unsupported` for adapters that are not LoRA or DoRA
 */
export function parseAdapterConfig(fields: Readonly<Record<string, unknown>>, source: string): AdapterConfig {
  const type = fields['peft_type'] ?? 'LORA';
  if (type !== 'LORA') throw invalid(`${source}: peft_type`, '"LORA"', type, { code: 'unsupported' });
  refuseSettings(fields, source);
  const r = optionalNumber(fields, 'r', source);
  const loraAlpha = optionalNumber(fields, 'lora_alpha', source);
  const target = fields['target_modules'];
  const base = fields['base_model_name_or_path'];
  const isTarget =
    typeof target === 'string' || (Array.isArray(target) && target.every((name) => typeof name === 'string'));
  return {
    ...(r === undefined ? {} : { r }),
    ...(loraAlpha === undefined ? {} : { loraAlpha }),
    useDora: flag(fields, 'use_dora', source),
    useRslora: flag(fields, 'use_rslora', source),
    rankPattern: numbers(fields, 'rank_pattern', source),
    alphaPattern: numbers(fields, 'alpha_pattern', source),
    ...(isTarget ? { targetModules: target as string | string[] } : {}),
    ...(typeof base === 'string' ? { baseModel: base } : {}),
  };
}

/** Variants of LoRA whose tensors look like LoRA's but compute something else. */
const OTHER_METHODS = ['use_qalora', 'use_bdlora', 'lora_bias', 'fan_in_fan_out'] as const;

function refuseSettings(fields: Readonly<Record<string, unknown>>, source: string): void {
  for (const name of OTHER_METHODS) {
    const value = fields[name];
    if (value !== undefined && value !== null && value !== false) {
      throw invalid(`${source}: ${name}`, 'false', value, { code: 'unsupported' });
    }
  }
  const bias = fields['bias'] ?? 'none';
  if (bias !== 'none') throw invalid(`${source}: bias`, '"none"', bias, { code: 'unsupported' });
}

function optionalNumber(
  fields: Readonly<Record<string, unknown>>,
  name: string,
  source: string,
): number | undefined {
  const value = fields[name];
  if (value === undefined || value === null) return undefined;
  if (typeof value === 'number' && value > 0) return value;
  throw invalid(`${source}: ${name}`, 'a number above 0', value, { code: 'corrupt' });
}

function flag(fields: Readonly<Record<string, unknown>>, name: string, source: string): boolean {
  const value = fields[name] ?? false;
  if (typeof value === 'boolean') return value;
  throw invalid(`${source}: ${name}`, 'true or false', value, { code: 'corrupt' });
}

function numbers(
  fields: Readonly<Record<string, unknown>>,
  name: string,
  source: string,
): Record<string, number> {
  const value = fields[name] ?? {};
  if (typeof value !== 'object' || Array.isArray(value))
    throw invalid(`${source}: ${name}`, 'an object', value, { code: 'corrupt' });
  for (const [pattern, number] of Object.entries(value as object)) {
    if (typeof number !== 'number' || !(number > 0)) {
      throw invalid(`${source}: ${name}: ${JSON.stringify(pattern)}`, 'a number above 0', number, {
        code: 'corrupt',
      });
    }
  }
  return value as Record<string, number>;
}

/**
 * The entry of a rank or alpha pattern that applies to a module: the first whose key the module equals or ends
 * with, at a dot. PEFT reads keys as regular expressions; of these only plain names, escaped dots, and a leading
 * `^` or `(.*\.)?` are taken, since a file must not bring its own expressions to run.
 *
 * @throws EquipoiseError `unsupported` for other expressions
 */
export function matchPattern(
  pattern: Readonly<Record<string, number>>,
  module: string,
  source: string,
): number | undefined {
  for (const [key, value] of Object.entries(pattern)) {
    const anchored = key.startsWith('^');
    const name = key
      .replace(/^\^/, '')
      .replace(/^\(\.\*\\\.\)\?/, '')
      .replace(/\$$/, '')
      .replaceAll('\\.', '.');
    if (!/^[\w.-]*$/.test(name)) {
      throw new EquipoiseError(
        'unsupported',
        `${source}: pattern ${JSON.stringify(key)}: expected a module name, got an expression`,
      );
    }
    if (module === name || (!anchored && module.endsWith(`.${name}`))) return value;
  }
  return undefined;
}
