/** Writing adapters that diffusers and PEFT load. */
import { join } from 'node:path';
import { invalid, type JsonValue, pyFloat, pythonJson, writeFileAtomic } from '@equipoise/core';
import {
  type AdapterModule,
  type AdapterModules,
  CONFIG_METADATA,
  DIFFUSERS_ADAPTER,
  PEFT_ADAPTER,
  PEFT_CONFIG,
} from './adapter-file.js';
import { type WriteOptions, writeSafetensors } from './safetensors.js';
import { renamed, type TensorSource } from './tensor-source.js';

/** What is needed of a layer to save it; see {@link AdapterModule}. */
export type SavedModule = Pick<AdapterModule, 'down' | 'up' | 'magnitude' | 'alpha' | 'scaling'>;

type Config = Record<string, JsonValue>;

/**
 * Saves `pytorch_lora_weights.safetensors` as diffusers' `save_lora_weights` does, byte for byte when every
 * alpha equals its rank. Otherwise the file also carries the config (`lora_adapter_metadata`), the one place where
 * diffusers looks for an alpha in its own spelling.
 *
 * @param components layers by component, then by module name
 * @returns the path written
 */
export async function saveDiffusersAdapter(
  folder: string,
  components: ReadonlyMap<string, ReadonlyMap<string, SavedModule>> | AdapterModules,
  options: Omit<WriteOptions, 'metadata'> = {},
): Promise<string> {
  const sources: TensorSource[] = [];
  const described: Config = {};
  let plain = true;
  for (const [component, modules] of components) {
    // diffusers decides by the first key alone how all keys are spelled: it loads no mixture.
    const own = [...modules.keys()].every((module) => diffusersEndings(module) !== null);
    for (const [module, { down, up, magnitude }] of modules) {
      const base = `${component}.${module}`;
      const [downName, upName] = (own ? diffusersEndings(module) : null) ?? [
        '.lora_A.weight',
        '.lora_B.weight',
      ];
      sources.push(renamed(down, base + downName), renamed(up, base + upName));
      if (magnitude !== undefined) sources.push(renamed(magnitude, `${base}.lora_magnitude_vector`));
    }
    plain &&= [...modules.values()].every((entry) => entry.scaling === 1);
    for (const [field, value] of Object.entries(loraConfig(modules)))
      described[`${component}.${field}`] = value;
  }
  const metadata: Record<string, string> = { format: 'pt' };
  if (!plain) metadata[CONFIG_METADATA] = pythonJson(described);
  const path = join(folder, DIFFUSERS_ADAPTER);
  await writeSafetensors(path, sources, { ...options, metadata });
  return path;
}

/** diffusers' own endings for the attention projections of UNets and of text encoders; it has none for other layers. */
function diffusersEndings(module: string): readonly [string, string] | null {
  if (/(to_q|to_k|to_v|to_out\.0)$/.test(module)) return ['.lora.down.weight', '.lora.up.weight'];
  if (/\.(q_proj|k_proj|v_proj|out_proj)$/.test(module)) {
    return ['.lora_linear_layer.down.weight', '.lora_linear_layer.up.weight'];
  }
  return null;
}

export interface PeftOptions extends Omit<WriteOptions, 'metadata'> {
  /** Recorded as base_model_name_or_path. */
  readonly baseModel?: string;
}

/**
 * Saves `adapter_model.safetensors` and `adapter_config.json` as PEFT's `save_pretrained` does, for one
 * component. The config comes last, so that an interrupted save is not taken for a whole one.
 *
 * @returns the folder
 */
export async function savePeftAdapter(
  folder: string,
  modules: ReadonlyMap<string, SavedModule>,
  { baseModel, ...options }: PeftOptions = {},
): Promise<string> {
  const sources: TensorSource[] = [];
  for (const [module, { down, up, magnitude }] of modules) {
    const base = `base_model.model.${module}`;
    sources.push(renamed(down, `${base}.lora_A.weight`), renamed(up, `${base}.lora_B.weight`));
    if (magnitude !== undefined) sources.push(renamed(magnitude, `${base}.lora_magnitude_vector`));
  }
  await writeSafetensors(join(folder, PEFT_ADAPTER), sources, options);
  const config = {
    ...loraConfig(modules),
    auto_mapping: null,
    base_model_name_or_path: baseModel ?? null,
    inference_mode: true,
    layers_pattern: null,
    layers_to_transform: null,
    loftq_config: {},
    megatron_config: null,
    megatron_core: 'megatron.core',
    modules_to_save: null,
    revision: null,
    task_type: null,
  };
  await writeFileAtomic(join(folder, PEFT_CONFIG), pythonJson(config));
  return folder;
}

/**
 * The LoraConfig of a set of layers: the commonest rank and alpha, and patterns for the layers that differ.
 * Modules are named in full, so that the config adapts these layers and no others; but for the prefix of text towers,
 * which transformers 4 has and transformers 5 has not: names match from their end.
 */
function loraConfig(modules: ReadonlyMap<string, SavedModule>): Config {
  if (modules.size === 0) throw invalid('modules', 'at least one adapted layer', 0);
  const entries = [...modules].map(([module, entry]) => ({
    module: module.replace(/^text_model\./, ''),
    rank: entry.down.shape[0] as number,
    ...entry,
  }));
  const dora = entries.filter((entry) => entry.magnitude !== undefined).length;
  if (dora !== 0 && dora !== entries.length) {
    throw invalid(
      'modules',
      'a magnitude on every layer or on none (the formats have one switch for all)',
      `${dora} of ${entries.length}`,
    );
  }
  // Configs written here scale by alpha / rank; a rank-stabilised source keeps its scale through another alpha.
  const alphas = entries.map(({ alpha, rank, scaling }) =>
    alpha / rank === scaling ? alpha : scaling * rank,
  );
  const r = commonest(entries.map((entry) => entry.rank));
  const alpha = commonest(alphas);
  const rankPattern = entries
    .filter((entry) => entry.rank !== r)
    .map((entry) => [entry.module, entry.rank] as const);
  const alphaPattern = entries
    .map((entry, i) => [entry.module, alphas[i] as number] as const)
    .filter(([, value]) => value !== alpha);
  return {
    alpha_pattern: Object.fromEntries(alphaPattern),
    bias: 'none',
    fan_in_fan_out: false,
    init_lora_weights: true,
    lora_alpha: alpha,
    lora_dropout: pyFloat(0),
    peft_type: 'LORA',
    r,
    rank_pattern: Object.fromEntries(rankPattern),
    target_modules: entries.map((entry) => entry.module).sort(),
    use_dora: dora > 0,
    use_rslora: false,
  };
}

function commonest(values: readonly number[]): number {
  const counts = new Map<number, number>();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  return [...counts].reduce((best, entry) => (entry[1] > best[1] ? entry : best))[0];
}
