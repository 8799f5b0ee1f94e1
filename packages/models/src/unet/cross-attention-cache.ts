/**
 * The keys and values of a text for every cross-attention layer. They do not depend on the image or the
 * timestep, so a sampler computes them once and uses them in all its steps.
 */
import { EquipoiseError } from '@equipoise/core';
import * as tf from '@tensorflow/tfjs-core';
import type { KeyValue, Transformer2DModel } from './transformer.js';

type Layers = Map<Transformer2DModel, readonly KeyValue[]>;

export class CrossAttentionCache {
  readonly #layers: Layers;

  private constructor(
    /** Number of texts. */
    readonly batch: number,
    layers: Layers,
  ) {
    this.#layers = layers;
  }

  /**
   * @param transformers all transformers of the model that will be given this cache
   * @param context the text [T, L, D]
   * @param rows which of the texts each batch element has, where texts repeat: each is then projected once. Default:
   * every text, in order
   */
  static project(
    transformers: Iterable<Transformer2DModel>,
    context: tf.Tensor3D,
    rows?: readonly number[],
  ): CrossAttentionCache {
    const layers: Layers = new Map();
    for (const transformer of transformers) {
      const keyValues = transformer.blocks.map(({ attn2 }) =>
        tf.tidy(() => {
          const projected = attn2.keyValue(context);
          if (rows === undefined) return projected;
          const index = tf.tensor1d([...rows], 'int32');
          return { key: tf.gather(projected.key, index), value: tf.gather(projected.value, index) };
        }),
      );
      for (const { key, value } of keyValues) {
        tf.keep(key);
        tf.keep(value);
      }
      layers.set(transformer, keyValues);
    }
    return new CrossAttentionCache(rows?.length ?? context.shape[0], layers);
  }

  /** The `count` batch elements from `start` on, as a cache of their own; free it too. */
  slice(start: number, count: number): CrossAttentionCache {
    const cut = (x: tf.Tensor3D): tf.Tensor3D => tf.keep(tf.slice(x, [start, 0, 0], [count, -1, -1]));
    const layers: Layers = new Map();
    for (const [transformer, keyValues] of this.#layers)
      layers.set(
        transformer,
        keyValues.map(({ key, value }) => ({ key: cut(key), value: cut(value) })),
      );
    return new CrossAttentionCache(count, layers);
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
