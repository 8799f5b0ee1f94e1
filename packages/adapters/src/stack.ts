/** The adapters on one linear layer, by name and weight. */
import type { Linear, LinearAdapter } from '@equipoise/models';
import * as tf from '@tensorflow/tfjs-core';
import type { LowRankUpdate } from './low-rank.js';

interface Entry {
  update: LowRankUpdate;
  weight: number;
}

/**
 * What fills a layer's adapter slot. One active adapter runs as a single fused kernel; several are applied one after
 * the other, in the order in which they were added, as PEFT does.
 */
export class AdapterStack implements LinearAdapter {
  readonly #entries = new Map<string, Entry>();

  get size(): number {
    return this.#entries.size;
  }

  add(name: string, update: LowRankUpdate): void {
    this.#entries.set(name, { update, weight: 1 });
  }

  get(name: string): LowRankUpdate | undefined {
    return this.#entries.get(name)?.update;
  }

  /** Factor on an adapter's update; 0 switches it off. */
  setWeight(name: string, weight: number): void {
    const entry = this.#entries.get(name);
    if (entry !== undefined) entry.weight = weight;
  }

  remove(name: string): void {
    this.#entries.get(name)?.update.dispose();
    this.#entries.delete(name);
  }

  /** The updates in use, with their weights. */
  active(): Entry[] {
    return [...this.#entries.values()].filter(({ weight }) => weight !== 0);
  }

  forward(x: tf.Tensor, layer: Linear): tf.Tensor {
    const active = this.active();
    const [first, ...others] = active;
    if (first === undefined) return layer.base(x);
    if (others.length === 0) return first.update.forward(x, first.weight);
    return tf.tidy(() => active.reduce((y, { update, weight }) => update.addTo(y, x, weight), layer.base(x)));
  }

  variables(): tf.Variable[] {
    return this.active().flatMap(({ update }) => update.variables());
  }
}
