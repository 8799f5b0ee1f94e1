/** Folders as diffusers and transformers save them. */
import { join } from 'node:path';
import { EquipoiseError, invalid, type JsonValue, nearest, parsePythonJson } from '@equipoise/core';
import { currentNames } from './key-styles.js';
import { SafeRoot } from './safe-root.js';
import { openSafetensors } from './safetensors.js';
import { indexFileName, openSharded, weightsFileName } from './sharded.js';
import { StateDict } from './state-dict.js';
import { isPickleName, pickleError } from './unsafe-formats.js';

const PIPELINE_INDEX = 'model_index.json';
/** Names the libraries save weights under, in order of preference: diffusers, transformers. */
const WEIGHT_BASES = ['diffusion_pytorch_model', 'model'] as const;

export interface OpenFolderOptions {
  /** Weights variant, such as `fp16`. A component without it falls back to the plain weights, with a notice. */
  readonly variant?: string;
}

/** One model, scheduler or tokenizer: a folder with its config. */
export class ComponentFolder {
  constructor(
    /** Name in the pipeline, or '' for a folder opened directly. */
    readonly name: string,
    readonly root: SafeRoot,
    /** `config.json`, `scheduler_config.json` or `preprocessor_config.json`; empty when there is none. */
    readonly config: Readonly<Record<string, unknown>>,
    /** The class that saved it, or the one the pipeline names. */
    readonly className: string | undefined,
    readonly variant: string | undefined,
    private readonly notices: string[],
  ) {}

  get path(): string {
    return this.root.path;
  }

  /**
   * The config of a model, and its path for errors.
   *
   * @throws EquipoiseError `missing` where there is none: the defaults of a class must not stand in for a lost file
   */
  modelConfig(): { config: Readonly<Record<string, unknown>>; where: string } {
    const where = join(this.path, 'config.json');
    if (Object.keys(this.config).length > 0) return { config: this.config, where };
    throw new EquipoiseError('missing', `${where}: expected the model's settings, got none`);
  }

  /**
   * The config as it must be saved again: with floats that Python wrote as `1.0` marked as such. Use {@link config} to read settings.
   */
  async savedConfig(): Promise<Record<string, JsonValue>> {
    const name = await configName(this.root);
    if (name === undefined) return {};
    return parsePythonJson(await this.root.text(name), join(this.path, name)) as Record<string, JsonValue>;
  }

  /** Variants for which there are weights; '' stands for the plain ones. */
  async variants(): Promise<string[]> {
    const names = await this.root.list();
    const found = new Set<string>();
    for (const base of WEIGHT_BASES) {
      for (const name of names) {
        const file = /^(.+?)(?:\.([^.]+))?\.safetensors$/.exec(name);
        const index = /^(.+)\.safetensors\.index(?:\.([^.]+))?\.json$/.exec(name);
        if (file?.[1] === base) found.add(file[2]?.replace(/-\d{5}-of-\d{5}$/, '') ?? '');
        if (index?.[1] === base) found.add(index[2] ?? '');
      }
    }
    return [...found].sort();
  }

  /**
   * Opens the weights, with names in their current form.
   *
   * @param as load for another class than the folder's own: `CLIPTextModel` out of a `CLIPModel`
   * @throws EquipoiseError `missing` listing the variants there are; `unsafe` when there are only pickles
   */
  async openWeights({ as = this.className }: { as?: string | undefined } = {}): Promise<StateDict> {
    return currentNames(await this.#open(), as);
  }

  async #open(): Promise<StateDict> {
    const found = (await this.#openVariant(this.variant)) ?? (await this.#fallback());
    if (found !== undefined) return found;
    const variants = await this.variants();
    const wanted = this.variant === undefined ? 'plain weights' : `weights of variant ${this.variant}`;
    if (variants.length > 0) {
      const listed = variants.map((variant) => (variant === '' ? 'plain' : variant)).join(', ');
      throw new EquipoiseError('missing', `${this.path}: expected ${wanted}, got only: ${listed}`, {
        hints: variants.filter((variant) => variant !== '').map((variant) => `Choose variant ${variant}.`),
      });
    }
    const names = await this.root.list();
    const pickle = names.find(isPickleName);
    if (pickle !== undefined) throw pickleError(join(this.path, pickle));
    throw new EquipoiseError(
      'missing',
      `${this.path}: expected ${wanted} (${WEIGHT_BASES.map((base) => weightsFileName(base)).join(' or ')}), got none`,
    );
  }

  async #fallback(): Promise<StateDict | undefined> {
    if (this.variant === undefined) return undefined;
    const plain = await this.#openVariant(undefined);
    if (plain !== undefined)
      this.notices.push(`${this.path}: no weights of variant ${this.variant}; loaded the plain ones`);
    return plain;
  }

  async #openVariant(variant: string | undefined): Promise<StateDict | undefined> {
    for (const base of WEIGHT_BASES) {
      const file = weightsFileName(base, variant);
      if (await this.root.has(file)) {
        const opened = await openSafetensors(await this.root.resolve(file));
        return new StateDict(opened.tensors, opened.path, [opened]);
      }
      const index = indexFileName(base, variant);
      if (await this.root.has(index)) return openSharded(this.root, index);
    }
    return undefined;
  }
}

/** One row of model_index.json. */
export interface ComponentEntry {
  readonly library: string;
  readonly className: string;
}

/** A folder opened by {@link openFolder}. */
export class ModelFolder {
  constructor(
    readonly root: SafeRoot,
    readonly kind: 'pipeline' | 'component',
    /** Class of the pipeline or model. */
    readonly className: string | undefined,
    /** A pipeline's parts that are present. */
    readonly components: ReadonlyMap<string, ComponentEntry>,
    /** A pipeline's settings besides its parts (`requires_safety_checker`, …); a component's config. */
    readonly config: Readonly<Record<string, unknown>>,
    readonly variant: string | undefined,
  ) {}

  /** Things the user should know: fallbacks that were taken. */
  readonly notices: string[] = [];

  get path(): string {
    return this.root.path;
  }

  has(name: string): boolean {
    return this.components.has(name);
  }

  /**
   * A part of a pipeline, or the folder itself when it is a single component (any name will do).
   *
   * @throws EquipoiseError `missing` that lists the parts there are
   */
  async component(name: string): Promise<ComponentFolder> {
    if (this.kind === 'component') {
      return new ComponentFolder('', this.root, this.config, this.className, this.variant, this.notices);
    }
    const entry = this.components.get(name);
    if (entry === undefined) {
      const closest = nearest(name, this.components.keys());
      throw new EquipoiseError(
        'missing',
        `${this.path}: component ${JSON.stringify(name)}: expected one of ${[...this.components.keys()].join(', ')}, got none of that name`,
        { hints: closest === undefined ? [] : [`Did you mean ${closest}?`] },
      );
    }
    const root = await this.root.folder(name);
    return new ComponentFolder(
      name,
      root,
      await readConfig(root),
      entry.className,
      this.variant,
      this.notices,
    );
  }
}

/**
 * Opens a pipeline folder (with `model_index.json`) or the folder of one model (with `config.json`). Only
 * JSON is read; weights are opened per component.
 *
 * @throws EquipoiseError `missing`, `corrupt` or `unsafe`, naming file and field
 */
export async function openFolder(path: string, options: OpenFolderOptions = {}): Promise<ModelFolder> {
  const { variant } = options;
  if (variant !== undefined && !/^[A-Za-z0-9_-]+$/.test(variant)) {
    throw invalid('variant', 'letters, digits, "_" and "-"', variant);
  }
  const root = await SafeRoot.open(path);
  if (await root.has(PIPELINE_INDEX)) return openPipeline(root, variant);
  const config = await readConfig(root);
  if (Object.keys(config).length === 0) {
    throw new EquipoiseError('missing', `${path}: expected ${PIPELINE_INDEX} or config.json, got neither`, {
      hints: ['Give a folder saved by diffusers or transformers (save_pretrained).'],
    });
  }
  return new ModelFolder(root, 'component', classNameOf(config), new Map(), config, variant);
}

async function openPipeline(root: SafeRoot, variant: string | undefined): Promise<ModelFolder> {
  const index = await root.json(PIPELINE_INDEX);
  const path = join(root.path, PIPELINE_INDEX);
  const className = index['_class_name'];
  if (typeof className !== 'string')
    throw invalid(`${path}: _class_name`, 'text', className, { code: 'corrupt' });
  const components = new Map<string, ComponentEntry>();
  const settings: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(index)) {
    if (!Array.isArray(value)) {
      if (!name.startsWith('_')) settings[name] = value;
      continue;
    }
    if (value.length !== 2) throw invalid(`${path}: ${name}`, '[library, class]', value, { code: 'corrupt' });
    const [library, component] = value as [unknown, unknown];
    if (library === null && component === null) continue;
    if (typeof library !== 'string' || typeof component !== 'string') {
      throw invalid(`${path}: ${name}`, '[library, class]', value, { code: 'corrupt' });
    }
    if (!/^[A-Za-z0-9_]+$/.test(name))
      throw invalid(`${path}: component`, 'a plain name', name, { code: 'unsafe' });
    components.set(name, { library, className: component });
  }
  return new ModelFolder(root, 'pipeline', className, components, settings, variant);
}

async function configName(root: SafeRoot): Promise<string | undefined> {
  for (const name of ['config.json', 'scheduler_config.json', 'preprocessor_config.json']) {
    if (await root.has(name)) return name;
  }
  return undefined;
}

async function readConfig(root: SafeRoot): Promise<Record<string, unknown>> {
  const name = await configName(root);
  return name === undefined ? {} : root.json(name);
}

function classNameOf(config: Readonly<Record<string, unknown>>): string | undefined {
  const { _class_name: diffusers, architectures } = config;
  if (typeof diffusers === 'string') return diffusers;
  const first = Array.isArray(architectures) ? architectures[0] : undefined;
  return typeof first === 'string' ? first : undefined;
}
