/** Adapters on a whole model: attach to layers by target name, weigh, merge, unmerge, remove. */
import { EquipoiseError, invalid, nearest, prose, streamId } from '@equipoise/core';
import type { Linear, Model } from '@equipoise/models';
import * as tf from '@tensorflow/tfjs-core';
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
  /** Original weights of merged layers, kept so that unmerging restores them bit for bit. */
  readonly #merged = new Map<string, tf.Tensor>();

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

  /** Call after each optimizer step: DoRA's norms are computed anew at the next forward. */
  changed(): void {
    for (const update of this.updates.values()) update.changed();
  }

  setWeight(weight: number): void {
    if (!Number.isFinite(weight)) throw invalid('adapter weight', 'a finite number', weight);
    for (const update of this.updates.values()) (update.layer.adapter as AdapterStack).setWeight(this.name, weight);
  }

  /** Folds the adapter into the layers' weights (weight 1) and switches it off. */
  merge(): void {
    if (this.#merged.size > 0) throw new EquipoiseError('conflict', `adapter ${this.name} is merged already`);
    for (const [path, update] of this.updates) {
      const parameter = update.layer.weight;
      this.#merged.set(path, tf.keep(tf.clone(parameter.value)));
      parameter.assign(update.mergeInto(parameter.value as tf.Tensor2D, 1));
    }
    this.setWeight(0);
  }

  /** Restores the weights from before {@link merge} and switches the adapter on again. */
  unmerge(): void {
    if (this.#merged.size === 0) throw new EquipoiseError('conflict', `adapter ${this.name} is not merged`);
    for (const [path, original] of this.#merged) this.updates.get(path)?.layer.weight.assign(original);
    this.#merged.clear();
    this.setWeight(1);
  }

  /** Takes the adapter off the model and frees it; a merged adapter stays folded in. */
  remove(): void {
    for (const update of this.updates.values()) {
      const stack = update.layer.adapter as AdapterStack;
      stack.remove(this.name);
      if (stack.size === 0) update.layer.adapter = null;
    }
    for (const original of this.#merged.values()) original.dispose();
    this.#merged.clear();
  }
}

/** Puts updates on their layers under a name. */
export function attach(model: Model, name: string, updates: ReadonlyMap<string, LowRankUpdate>): Adapter {
  for (const [path, { layer }] of updates) {
    layer.adapter ??= new AdapterStack();
    const stack = layer.adapter;
    if (!(stack instanceof AdapterStack)) throw new EquipoiseError('conflict', `${path} has an adapter of another kind`);
    if (stack.get(name) !== undefined) throw new EquipoiseError('conflict', `${path} has an adapter called ${name} already`);
  }
  for (const [, update] of updates) (update.layer.adapter as AdapterStack).add(name, update);
  return new Adapter(name, model, updates);
}

/**
 * Attaches a fresh adapter to every linear layer that matches the targets. The numbers depend on the seed and the
 * layer's path alone.
 *
 * @throws EquipoiseError when a target matches no layer (with the nearest layer name) or an option is out of range
 */
export function createAdapter(model: Model, name: string, config: AdapterConfig, seed: number): Adapter {
  checkConfig(config);
  const layers = new Map([...model.namedLinears()].filter(([path]) => matchesTarget(path, config.targets)));
  for (const target of config.targets) requireMatch(model, target, layers);
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

function requireMatch(model: Model, target: string, layers: ReadonlyMap<string, Linear>): void {
  if ([...layers.keys()].some((path) => matchesTarget(path, [target]))) return;
  const known = [...new Set([...model.namedLinears()].map(([path]) => path.replace(/^.*\.(?=\D)/, '')))];
  const close = nearest(target, known);
  throw invalid('targets', `the name of a linear layer${close === undefined ? '' : ` (did you mean ${close}?)`}`, prose(`"${target}", which matches none`));
}
