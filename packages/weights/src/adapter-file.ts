/** LoRA and DoRA files of every common spelling, read into one structure. */
import { stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { EquipoiseError, invalid, parseJson, prose } from '@equipoise/core';
import { type AdapterConfig, matchPattern, parseAdapterConfig } from './adapter-config.js';
import { type AdapterKey, AdapterKeyReader, type AdapterSpelling, type KeyContext } from './adapter-keys.js';
import { isFloatType, readFloat32 } from './convert.js';
import { SafeRoot } from './safe-root.js';
import { openSafetensors, type SafetensorsFile } from './safetensors.js';
import { describeTensor, renamed, type TensorSource } from './tensor-source.js';
import { isPickleName, pickleError } from './unsafe-formats.js';

export const DIFFUSERS_ADAPTER = 'pytorch_lora_weights.safetensors';
export const PEFT_ADAPTER = 'adapter_model.safetensors';
export const PEFT_CONFIG = 'adapter_config.json';
/** Key under which newer diffusers stores the LoraConfig in a file's metadata. */
export const CONFIG_METADATA = 'lora_adapter_metadata';

/** The adapter of one layer: y = W x + b + scaling * up (down x), and with a magnitude, DoRA. */
export interface AdapterModule {
  /** The layer's name in its model: `down_blocks.0.….attn1.to_q`. */
  readonly module: string;
  /** A: [rank, in] (linear) or [rank, in, kh, kw] (convolution). */
  readonly down: TensorSource;
  /** B: [out, rank] or [out, rank, 1, 1]. */
  readonly up: TensorSource;
  /** DoRA's magnitude, [out]. */
  readonly magnitude?: TensorSource;
  readonly rank: number;
  readonly alpha: number;
  /** alpha / rank, or alpha / sqrt(rank) for rank-stabilised adapters. */
  readonly scaling: number;
}

/** Adapted layers by component (`unet`, `text_encoder`, …), then by name. */
export type AdapterModules = ReadonlyMap<string, ReadonlyMap<string, AdapterModule>>;

/** An open adapter; close it when its tensors have been read. */
export class AdapterFile {
  constructor(
    readonly path: string,
    readonly spelling: AdapterSpelling,
    readonly components: AdapterModules,
    /** Settings by component, where the file has any. */
    readonly configs: ReadonlyMap<string, AdapterConfig>,
    private readonly file: SafetensorsFile,
  ) {}

  /** True when any layer has a DoRA magnitude. */
  get usesDora(): boolean {
    return [...this.components.values()].some((modules) =>
      [...modules.values()].some((entry) => entry.magnitude),
    );
  }

  /** The layers of one component; an empty map when it has none. */
  modules(component: string): ReadonlyMap<string, AdapterModule> {
    return this.components.get(component) ?? new Map();
  }

  async close(): Promise<void> {
    await this.file.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

export type OpenAdapterOptions = Partial<KeyContext>;

/**
 * Opens an adapter: a `.safetensors` file, a folder saved by diffusers (`pytorch_lora_weights.safetensors`) or
 * one saved by PEFT (`adapter_config.json` beside `adapter_model.safetensors`).
 *
 * The scale of each layer comes from its `.alpha` tensor, else from the config's alpha_pattern or lora_alpha,
 * else alpha = rank.
 *
 * @param options `component`: whose layers keys without a prefix name (default `unet`); `modules`: the models'
 * module names, which settle kohya's flattened names
 * @throws EquipoiseError `corrupt` for unknown keys, missing halves and shapes that do not fit together;
 * `unsupported` for other adapter methods; `unsafe` for pickles
 */
export async function openAdapter(path: string, options: OpenAdapterOptions = {}): Promise<AdapterFile> {
  const context: KeyContext = { component: 'unet', ...options };
  const located = await locate(path);
  const file = await openSafetensors(located);
  try {
    const keys = readKeys(file, context);
    const configs = await readConfigs(file, located, new Set(keys.map(({ key }) => key.component)));
    const components = new Map<string, Map<string, AdapterModule>>();
    for (const [component, modules] of group(keys)) {
      const entries = new Map<string, AdapterModule>();
      for (const [module, parts] of modules) {
        entries.set(module, await assemble(file.path, module, parts, configs.get(component)));
      }
      components.set(component, entries);
    }
    const spelling = (keys[0] as FoundKey).key.spelling;
    return new AdapterFile(file.path, spelling, components, configs, file);
  } catch (error) {
    await file.close();
    throw error;
  }
}

async function locate(path: string): Promise<string> {
  const info = await stat(path).catch(() => undefined);
  if (!info?.isDirectory()) return path;
  const root = await SafeRoot.open(path);
  for (const name of [PEFT_ADAPTER, DIFFUSERS_ADAPTER]) {
    if (await root.has(name)) return root.resolve(name);
  }
  const names = await root.list();
  const candidates = names.filter((name) => name.endsWith('.safetensors'));
  if (candidates.length === 1) return root.resolve(candidates[0] as string);
  const pickle = names.find(isPickleName);
  if (candidates.length === 0 && pickle !== undefined) throw pickleError(join(path, pickle));
  const found = candidates.length === 0 ? 'none' : prose(candidates.join(', ')).text;
  throw new EquipoiseError(
    'missing',
    `${path}: expected ${PEFT_ADAPTER} or ${DIFFUSERS_ADAPTER}, got ${found}`,
  );
}

interface FoundKey {
  readonly key: AdapterKey;
  readonly source: TensorSource;
}

/** Parts of other adapter methods, by what their keys contain. */
const OTHER_METHODS: readonly (readonly [RegExp, string])[] = [
  [/\.hada_/, 'LoHa'],
  [/\.lokr_/, 'LoKr'],
  [/\.oft_|\.boft_/, 'OFT'],
  [/\.lora_mid\./, 'CP-decomposed LoRA (LoCon)'],
  [/\.lora_embedding_/, 'LoRA on embeddings'],
  [/\.(diff|diff_b|w_norm|b_norm)$/, 'a full difference'],
  [/\.ia3_/, 'IA3'],
];

function readKeys(file: SafetensorsFile, context: KeyContext): FoundKey[] {
  const reader = new AdapterKeyReader(context);
  const found = [...file.tensors.values()].map((source) => {
    const key = reader.parse(source.name);
    if (key !== null) return { key, source };
    const name = `${file.path}: tensor ${JSON.stringify(source.name)}`;
    const method = OTHER_METHODS.find(([pattern]) => pattern.test(source.name));
    if (method !== undefined)
      throw new EquipoiseError('unsupported', `${name}: expected LoRA or DoRA, got ${method[1]}`);
    throw new EquipoiseError('corrupt', `${name}: expected the name of a LoRA or DoRA tensor, got another`);
  });
  if (found.length === 0)
    throw new EquipoiseError('corrupt', `${file.path}: expected LoRA tensors, got none`);
  return found;
}

type Parts = Partial<Record<AdapterKey['part'], TensorSource>>;

function group(keys: readonly FoundKey[]): Map<string, Map<string, Parts>> {
  const components = new Map<string, Map<string, Parts>>();
  for (const { key, source } of keys) {
    const modules = components.get(key.component) ?? new Map<string, Parts>();
    components.set(key.component, modules);
    const parts = modules.get(key.module) ?? {};
    const twin = parts[key.part];
    if (twin !== undefined) {
      const names = `${JSON.stringify(twin.name)} and ${JSON.stringify(source.name)}`;
      throw new EquipoiseError('corrupt', `${source.origin}: ${names} stand for the same tensor`);
    }
    modules.set(key.module, { ...parts, [key.part]: source });
  }
  return components;
}

async function readConfigs(
  file: SafetensorsFile,
  path: string,
  components: ReadonlySet<string>,
): Promise<Map<string, AdapterConfig>> {
  const configs = new Map<string, AdapterConfig>();
  const text = file.metadata.get(CONFIG_METADATA);
  if (text !== undefined) {
    const source = `${path}: ${CONFIG_METADATA}`;
    const fields = objectOf(parseJson(text, source), source);
    for (const component of components) {
      const own = Object.entries(fields)
        .filter(([name]) => name.startsWith(`${component}.`))
        .map(([name, value]) => [name.slice(component.length + 1), value] as const);
      // save_lora_adapter writes the fields of its one component without a prefix.
      const unprefixed = Object.entries(fields).filter(([name]) => !name.includes('.'));
      const chosen = own.length > 0 ? own : unprefixed;
      if (chosen.length > 0) configs.set(component, parseAdapterConfig(Object.fromEntries(chosen), source));
    }
  }
  if (basename(path) === PEFT_ADAPTER) {
    const root = await SafeRoot.open(dirname(path));
    const fields = await root.json(PEFT_CONFIG);
    const config = parseAdapterConfig(fields, join(root.path, PEFT_CONFIG));
    for (const component of components) configs.set(component, config);
  }
  return configs;
}

function objectOf(value: unknown, source: string): Record<string, unknown> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value))
    return value as Record<string, unknown>;
  throw invalid(source, 'a JSON object', value, { code: 'corrupt' });
}

async function assemble(
  path: string,
  module: string,
  parts: Parts,
  config: AdapterConfig | undefined,
): Promise<AdapterModule> {
  const where = `${path}: ${module}`;
  const { down, up, magnitude, alpha } = parts;
  if (down === undefined || up === undefined) {
    const present = Object.values(parts).map((source) => JSON.stringify(source.name));
    throw invalid(where, 'both LoRA matrices', prose(`only ${present.join(', ')}`), { code: 'corrupt' });
  }
  for (const source of [down, up, magnitude]) {
    if (source !== undefined && !isFloatType(source.dtype)) {
      throw invalid(`${where}: ${source.name}`, 'F32, F16 or BF16', prose(describeTensor(source)), {
        code: 'unsupported',
      });
    }
  }
  const rank = down.shape[0] ?? 0;
  const fits =
    down.shape.length >= 2 && up.shape.length === down.shape.length && up.shape[1] === rank && rank > 0;
  if (!fits) {
    const actual = prose(`[${down.shape.join(', ')}] and [${up.shape.join(', ')}]`);
    throw invalid(where, 'matrices of shapes [rank, in] and [out, rank]', actual, { code: 'corrupt' });
  }
  const alphaValue =
    alpha === undefined ? alphaOf(config, module, rank, path) : await readAlpha(alpha, where);
  const stabilised = config?.useRslora === true && alpha === undefined;
  return {
    module,
    down,
    up,
    ...(magnitude === undefined ? {} : { magnitude: vectorOf(magnitude, up.shape[0] as number, where) }),
    rank,
    alpha: alphaValue,
    scaling: alphaValue / (stabilised ? Math.sqrt(rank) : rank),
  };
}

function alphaOf(config: AdapterConfig | undefined, module: string, rank: number, path: string): number {
  if (config === undefined) return rank;
  return matchPattern(config.alphaPattern, module, path) ?? config.loraAlpha ?? rank;
}

async function readAlpha(source: TensorSource, where: string): Promise<number> {
  const values = source.byteLength <= 8 ? await readFloat32(source) : undefined;
  const [value] = values ?? [];
  if (values?.length === 1 && value !== undefined && Number.isFinite(value)) return value;
  throw invalid(`${where}: alpha`, 'one finite number', value ?? prose(describeTensor(source)), {
    code: 'corrupt',
  });
}

/** The magnitude as [out]; kohya's tools write [out, 1], and PEFT [1, out, 1, 1] for convolutions. */
function vectorOf(magnitude: TensorSource, out: number, where: string): TensorSource {
  const { shape } = magnitude;
  const size = shape.reduce((product, n) => product * n, 1);
  const byRow = shape[0] === out || (shape.length === 4 && shape[1] === out);
  if (size === out && (byRow || out === 1)) return renamed(magnitude, magnitude.name, [out]);
  throw invalid(
    `${where}: magnitude`,
    `one number for each of ${out} output features`,
    prose(`[${shape.join(', ')}]`),
    {
      code: shape.length === 2 && shape[0] === 1 ? 'unsupported' : 'corrupt',
      hints:
        shape.length === 2 && shape[0] === 1
          ? ['It was trained with the norm over the other dimension (wd_on_out=False).']
          : [],
    },
  );
}
