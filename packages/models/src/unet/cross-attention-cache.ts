/**
 * The keys and values of a text for every cross-attention layer. They do not depend on the image or the
 * timestep, so a sampler computes them once and uses them in all its steps.
 */
import { EquipoiseError } from '@equipoise/core';
import * as tf from '@tensorflow/tfjs-core';
import type { KeyValue, Transformer2DModel } from './transformer.js';

export class CrossAttentionCache {
  /** Number of texts. */
  readonly batch: number;
  readonly #layers = new Map<Transformer2DModel, readonly KeyValue[]>();

  /**
   * @param transformers all transformers of the model that will be given this cache
   * @param context the text [B, L, D]
   */
  constructor(transformers: Iterable<Transformer2DModel>, context: tf.Tensor3D) {
    this.batch = context.shape[0];
    for (const transformer of transformers) {
      const keyValues = transformer.blocks.map(({ attn2 }) => tf.tidy(() => attn2.keyValue(context)));
      for (const { key, value } of keyValues) {
        tf.keep(key);
        tf.keep(value);
      }
      this.#layers.set(transformer, keyValues);
    }
  }

  /**
   * The keys and values for a transformer's blocks.
   *
   * @throws EquipoiseError when this cache was made for another model
   */
  lookup(transformer: Transformer2DModel): readonly KeyValue[] {
    const keyValues = this.#layers.get(transformer);
    if (keyValues === undefined) {
      throw new EquipoiseError(
        'invalid',
        'context: expected a cache made by this model, got one of another model',
      );
    }
    return keyValues;
  }

  /** Frees the tensors. */
  dispose(): void {
    for (const keyValues of this.#layers.values()) {
      for (const { key, value } of keyValues) tf.dispose([key, value]);
    }
    this.#layers.clear();
  }
}
