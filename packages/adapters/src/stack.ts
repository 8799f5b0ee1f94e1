/** The adapters on one linear layer, by name and weight. */
import { uploadWeight } from '@equipoise/backend';
import type { Linear, LinearAdapter, WeightStorage } from '@equipoise/models';
import * as tf from '@tensorflow/tfjs-core';
import type { LowRankUpdate } from './low-rank.js';

interface Entry {
  readonly update: LowRankUpdate;
  weight: number;
  merged: boolean;
}

/** A layer's weight from before a merge. */
interface Saved {
  readonly name: string;
  readonly original: tf.Tensor;
}

/**
 * What fills a layer's adapter slot. One adapter runs as a single fused kernel; several are applied one after the
 * other, in the order in which they were added, as PEFT does: each DoRA rescales the result of those before it.
 */
export class AdapterStack implements LinearAdapter {
  readonly #entries = new Map<string, Entry>();
  /** Merges in the order in which they were made. */
  readonly #saved: Saved[] = [];

  get size(): number {
    return this.#entries.size;
  }

  add(name: string, update: LowRankUpdate): void {
    this.#entries.set(name, { update, weight: 1, merged: false });
    update.unmergedWeight = () => this.#saved[0]?.original ?? update.layer.weight.value;
  }

  get(name: string): LowRankUpdate | undefined {
    return this.#entries.get(name)?.update;
  }

  /**
   * Factor on an adapter's update s B A. At 0 a LoRA is off; a DoRA still sets the rows of W to its magnitudes, as in
   * PEFT.
   */
  setWeight(name: string, weight: number): void {
    const entry = this.#entries.get(name);
    if (entry !== undefined) entry.weight = weight;
  }

  remove(name: string): void {
    this.#entries.get(name)?.update.dispose();
    this.#entries.delete(name);
    const index = this.#saved.findIndex((saved) => saved.name === name);
    if (index < 0) return;
    this.#saved.splice(index, 1)[0]?.original.dispose();
    // What stays folded in counts as part of the unmerged weight from here on.
    for (const { update } of this.#entries.values()) update.changed();
  }

  /** The adapter merged last: the only one that can be unmerged. */
  get lastMerged(): string | undefined {
    return this.#saved.at(-1)?.name;
  }

  /** Folds an adapter, at its weight, into the layer. @param storage how the new weight is kept */
  merge(name: string, storage: WeightStorage): void {
    const entry = this.#entries.get(name) as Entry;
    const { weight } = entry.update.layer;
    const merged = entry.update.mergeInto(weight.value as tf.Tensor2D, entry.weight);
    const numbers = merged.dataSync<'float32'>();
    merged.dispose();
    // Uploaded as a frozen weight, so that kernels may pack it as they do the original.
    const bytes = new Uint8Array(numbers.buffer, numbers.byteOffset, numbers.byteLength);
    const uploaded = uploadWeight(bytes, weight.deviceShape, 'F32', { storage });
    this.#saved.push({ name, original: tf.keep(tf.clone(weight.value)) });
    weight.assign(uploaded);
    entry.merged = true;
  }

  /** Restores the weight from before the last merge, to the bit. */
  unmerge(): void {
    const saved = this.#saved.pop();
    const entry = saved === undefined ? undefined : this.#entries.get(saved.name);
    if (saved === undefined || entry === undefined) return;
    entry.update.layer.weight.assign(saved.original);
    entry.merged = false;
  }

  /** The updates that take part in the forward pass. */
  #active(): Entry[] {
    return [...this.#entries.values()].filter(
      ({ update, weight, merged }) => !merged && (weight !== 0 || update.isDora),
    );
  }

  forward(x: tf.Tensor, layer: Linear): tf.Tensor {
    const active = this.#active();
    const [first, ...others] = active;
    if (first === undefined) return layer.base(x);
    if (others.length === 0) return first.update.forward(x, first.weight);
    return tf.tidy(() => active.reduce((y, { update, weight }) => update.addTo(y, x, weight), layer.base(x)));
  }

  variables(): tf.Variable[] {
    return this.#active().flatMap(({ update }) => update.variables());
  }
}
