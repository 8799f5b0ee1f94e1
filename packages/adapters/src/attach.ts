/** Adapters on a whole model: attach to layers by target name, weigh, merge, unmerge, remove. */
import { getPrecision } from '@equipoise/backend';
import { EquipoiseError, invalid, nearest, prose, streamId } from '@equipoise/core';
import type { Linear, Model, WeightStorage } from '@equipoise/models';
import type * as tf from '@tensorflow/tfjs-core';
import { type AdapterInit, LowRankUpdate } from './low-rank.js';
import { AdapterStack } from './stack.js';

/** The projections that MI-TUNE trains (FACTS: 128 layers of a Stable Diffusion UNet). */
export const ATTENTION_TARGETS = ['to_q', 'to_k', 'to_v', 'to_out.0'] as const;

export interface AdapterConfig {
  readonly kind: 'lora' | 'dora';
  readonly rank: number;
  /** s = alpha / rank. */
  readonly alpha: number;
  readonly init: AdapterInit;
  /** A layer is adapted when its path equals an entry or ends with "." + entry. */
  readonly targets: readonly string[];
}

/** PEFT's rule for `target_modules` given as a list. */
export function matchesTarget(path: string, targets: readonly string[]): boolean {
  return targets.some((target) => path === target || path.endsWith(`.${target}`));
}

/** One named adapter on one model. */
export class Adapter {
  #weight = 1;
  #merged = false;

  constructor(
    readonly name: string,
    readonly model: Model,
    /** By layer path. */
    readonly updates: ReadonlyMap<string, LowRankUpdate>,
  ) {}

  /** Trained tensors, in layer order: A, B and, for DoRA, the magnitude. */
  variables(): tf.Variable[] {
    return [...this.updates.values()].flatMap((update) => update.variables());
  }

  get parameterCount(): number {
    return this.variables().reduce((sum, variable) => sum + variable.size, 0);
  }

  get usesDora(): boolean {
    return [...this.updates.values()].some((update) => update.isDora);
  }

  /** Factor on the update. */
  get weight(): number {
    return this.#weight;
  }

  get isMerged(): boolean {
    return this.#merged;
  }

  /** Call after each optimizer step: DoRA's norms are computed anew at the next forward. */
  changed(): void {
    for (const update of this.updates.values()) update.changed();
  }

  /**
   * Scales the update s B A, as diffusers' `set_adapters` does; see {@link AdapterStack.setWeight} for 0.
   *
   * @throws EquipoiseError `conflict` while the adapter is merged
   */
  setWeight(weight: number): void {
    if (!Number.isFinite(weight)) throw invalid('adapter weight', 'a finite number', weight);
    if (this.#merged)
      throw new EquipoiseError(
        'conflict',
        `adapter ${this.name}: expected it unmerged to set its weight, got it merged`,
      );
    for (const stack of this.#stacks()) stack.setWeight(this.name, weight);
    this.#weight = weight;
  }

  /**
   * Folds the adapter, at its present weight, into the layers' weights: the forward pass then costs nothing extra.
   * Adapters merged one after the other combine as in PEFT. The original weights stay in memory for {@link unmerge}.
   *
   * @param storage how merged weights are kept; bf16 rounds small updates away
   */
  merge(storage: WeightStorage = getPrecision()): void {
    if (this.#merged) throw new EquipoiseError('conflict', `adapter ${this.name} is merged already`);
    for (const [path, { layer }] of this.updates) {
      if (layer.weight.variable === null) continue;
      throw new EquipoiseError(
        'conflict',
        `adapter ${this.name}: ${path}: expected a frozen layer to merge into, got one being trained`,
      );
    }
    for (const stack of this.#stacks()) stack.merge(this.name, storage);
    this.#merged = true;
  }

  /**
   * Restores the weights from before {@link merge} to the bit.
   *
   * @throws EquipoiseError `conflict` when it is not merged, or another adapter was merged after it
   */
  unmerge(): void {
    if (!this.#merged) throw new EquipoiseError('conflict', `adapter ${this.name} is not merged`);
    for (const stack of this.#stacks()) {
      if (stack.lastMerged === this.name) continue;
      throw new EquipoiseError(
        'conflict',
        `adapter ${this.name}: expected the adapter merged last, got one merged before ${stack.lastMerged}`,
        {
          hints: [`Unmerge ${stack.lastMerged} first.`],
        },
      );
    }
    for (const stack of this.#stacks()) stack.unmerge();
    this.#merged = false;
  }

  /** Takes the adapter off the model and frees it; a merged adapter stays folded in. */
  remove(): void {
    for (const update of this.updates.values()) {
      const stack = update.layer.adapter as AdapterStack;
      stack.remove(this.name);
      if (stack.size === 0) update.layer.adapter = null;
    }
  }

  *#stacks(): Generator<AdapterStack> {
    for (const { layer } of this.updates.values()) yield layer.adapter as AdapterStack;
  }
}

/**
 * Puts updates on their layers under a name.
 *
 * @throws EquipoiseError `conflict` when a layer has an adapter of that name; no layer is changed then
 */
export function attach(model: Model, name: string, updates: ReadonlyMap<string, LowRankUpdate>): Adapter {
  checkFree(name, new Map([...updates].map(([path, { layer }]) => [path, layer])));
  for (const update of updates.values()) {
    update.layer.adapter ??= new AdapterStack();
    (update.layer.adapter as AdapterStack).add(name, update);
  }
  return new Adapter(name, model, updates);
}

/** Refuses a name that is taken on any of the layers. */
export function checkFree(name: string, layers: ReadonlyMap<string, Linear>): void {
  for (const [path, { adapter }] of layers) {
    if (adapter === null) continue;
    if (!(adapter instanceof AdapterStack))
      throw new EquipoiseError('conflict', `${path} has an adapter of another kind`);
    if (adapter.get(name) !== undefined)
      throw new EquipoiseError('conflict', `${path} has an adapter called ${name} already`);
  }
}

/** What an adapter adds to a model. */
export interface AdapterPlan {
  /** The layers adapted, by path. */
  readonly layers: ReadonlyMap<string, Linear>;
  readonly tensors: number;
  /** Numbers to train. */
  readonly parameters: number;
}

/**
 * The layers that match a config, and the size of the adapter. The model needs no weights for it.
 *
 * @throws EquipoiseError when a target matches no layer (with the nearest layer name) or an option is out of range
 */
export function planAdapter(model: Model, config: AdapterConfig): AdapterPlan {
  checkConfig(config);
  const linears = [...model.namedLinears()];
  const layers = new Map(linears.filter(([path]) => matchesTarget(path, config.targets)));
  for (const target of config.targets) requireMatch(target, linears);
  let parameters = 0;
  for (const { inFeatures, outFeatures } of layers.values()) {
    parameters += config.rank * (inFeatures + outFeatures) + (config.kind === 'dora' ? outFeatures : 0);
  }
  return { layers, tensors: layers.size * (config.kind === 'dora' ? 3 : 2), parameters };
}

/**
 * Attaches a fresh adapter to every linear layer that matches the targets. The numbers depend on the seed and the
 * layer's path alone.
 *
 * @throws EquipoiseError as {@link planAdapter}, or `conflict` when the name is taken
 */
export function createAdapter(model: Model, name: string, config: AdapterConfig, seed: number): Adapter {
  const { layers } = planAdapter(model, config);
  checkFree(name, layers);
  const updates = new Map<string, LowRankUpdate>();
  const scaling = config.alpha / config.rank;
  for (const [path, layer] of layers) {
    const options = { rank: config.rank, scaling, init: config.init, dora: config.kind === 'dora', seed };
    updates.set(path, LowRankUpdate.fresh(layer, { ...options, stream: streamId('adapter', path) }));
  }
  return attach(model, name, updates);
}

function checkConfig({ kind, rank, alpha, init, targets }: AdapterConfig): void {
  if (kind !== 'lora' && kind !== 'dora') throw invalid('kind', 'lora or dora', kind);
  if (!Number.isInteger(rank) || rank < 1) throw invalid('rank', 'a positive integer', rank);
  if (!Number.isFinite(alpha) || alpha <= 0) throw invalid('alpha', 'a positive number', alpha);
  if (init !== 'gaussian' && init !== 'kaiming') throw invalid('init', 'gaussian or kaiming', init);
  if (targets.length === 0) throw invalid('targets', 'at least one layer name', targets);
}

function requireMatch(target: string, linears: readonly (readonly [string, Linear])[]): void {
  if (linears.some(([path]) => matchesTarget(path, [target]))) return;
  // Last parts of the paths, with the number where it is one: `to_q`, `to_out.0`.
  const known = [...new Set(linears.map(([path]) => /(?:[^.]+\.)?\d+$|[^.]+$/.exec(path)?.[0] ?? path))];
  const close = nearest(target, known);
  throw invalid(
    'targets',
    `the name of a linear layer${close === undefined ? '' : ` (did you mean ${close}?)`}`,
    prose(`"${target}", which matches none`),
  );
}
