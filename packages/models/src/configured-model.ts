/** Models whose architecture follows from a `config.json`. */
import type { ParsedConfig } from './config.js';
import {
  type KeyRules,
  type LoadOptions,
  loadWeights,
  Model,
  type RandomOptions,
  randomWeights,
} from './model.js';
import type { ManifestEntry, StateDict } from './state-dict.js';

/** A class of models: what its static members are called on. */
export type ModelClass<M> = new (config: unknown, where?: string) => M;

export interface ConfiguredLoadOptions extends LoadOptions {
  /** Names the config in errors, such as the path of its file; the class where left out. */
  readonly where?: string;
}

export abstract class ConfiguredModel<Config> extends Model {
  readonly config: Readonly<Config>;
  /** Keys of the config that were ignored, one sentence each. */
  readonly warnings: readonly string[];

  constructor({ config, warnings }: Pick<ParsedConfig<Config>, 'config' | 'warnings'>) {
    super();
    this.config = config;
    this.warnings = warnings;
  }

  /** How the names in a checkpoint differ from the model's own. */
  keyRules(_state: StateDict): KeyRules {
    return {};
  }

  /** The checkpoint's keys and shapes for a config. */
  static manifest<M extends Model>(this: ModelClass<M>, config: unknown): ManifestEntry[] {
    return new this(config).manifest();
  }

  /**
   * A model with the weights of a checkpoint.
   *
   * @param config the parsed `config.json`
   * @throws EquipoiseError for what the config asks and the class lacks, and as {@link loadWeights}
   */
  static async load<M extends ConfiguredModel<unknown>>(
    this: ModelClass<M>,
    config: unknown,
    state: StateDict,
    options?: ConfiguredLoadOptions,
  ): Promise<M> {
    const model = new this(config, options?.where);
    return loadWeights(model, state, options, model.keyRules(state));
  }

  /** A model with fresh weights, initialised as the reference libraries do. */
  static random<M extends Model>(
    this: ModelClass<M>,
    config: unknown,
    seed: number,
    options?: RandomOptions,
  ): M {
    return randomWeights(new this(config), seed, options);
  }
}
