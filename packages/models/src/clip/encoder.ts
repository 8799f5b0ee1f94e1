/**
 * The transformer both CLIP towers share (Radford et al. 2021): pre-norm layers of self-attention and a
 * two-layer perceptron.
 */
import { attention } from '@equipoise/backend';
import * as tf from '@tensorflow/tfjs-core';
import { repeatBatch } from '../batch.js';
import { LayerNorm, Linear } from '../layers.js';
import { Module } from '../module.js';
import { type Initializer, ZEROS } from '../parameter.js';
import type { ClipActivation, ClipTowerConfig } from './config.js';

/** Keys and values of positions that come before the ones being computed, each [B or 1, P, C]. */
export type LayerPrefix = { key: tf.Tensor3D; value: tf.Tensor3D };

/** What a layer leaves behind: its result, and the keys and values of all positions it knows. */
export interface LayerResult extends LayerPrefix {
  hidden: tf.Tensor3D;
}

const normal = (std: number): Initializer => ({ kind: 'normal', std });

function projection(from: number, to: number, std: number): Linear {
  return new Linear(from, to, { weightInitializer: normal(std), biasInitializer: ZEROS });
}

class EncoderLayer extends Module {
  readonly #norm1: LayerNorm;
  readonly #norm2: LayerNorm;
  readonly #q: Linear;
  readonly #k: Linear;
  readonly #v: Linear;
  readonly #out: Linear;
  readonly #fc1: Linear;
  readonly #fc2: Linear;
  readonly #heads: number;
  readonly #causal: boolean;
  readonly #activation: ClipActivation;

  constructor(config: ClipTowerConfig, causal: boolean) {
    super();
    const {
      hidden_size: width,
      intermediate_size: inner,
      num_hidden_layers: layers,
      layer_norm_eps,
    } = config;
    this.#heads = config.num_attention_heads;
    this.#causal = causal;
    this.#activation = config.hidden_act;
    // Standard deviations of the reference's initialisation.
    const inStd = width ** -0.5 * (2 * layers) ** -0.5;
    this.#k = this.child('self_attn.k_proj', projection(width, width, inStd));
    this.#v = this.child('self_attn.v_proj', projection(width, width, inStd));
    this.#q = this.child('self_attn.q_proj', projection(width, width, inStd));
    this.#out = this.child('self_attn.out_proj', projection(width, width, width ** -0.5));
    this.#norm1 = this.child('layer_norm1', new LayerNorm(width, layer_norm_eps));
    this.#fc1 = this.child('mlp.fc1', projection(width, inner, (2 * width) ** -0.5));
    this.#fc2 = this.child('mlp.fc2', projection(inner, width, inStd));
    this.#norm2 = this.child('layer_norm2', new LayerNorm(width, layer_norm_eps));
  }

  /** x [B, S, C] at the positions after `prefix`. */
  forward(x: tf.Tensor3D, prefix: LayerPrefix | null): LayerResult {
    const { h, key, value } = tf.tidy(() => {
      const normed = this.#norm1.forward(x);
      const [key, value] = [this.#k.forward(normed) as tf.Tensor3D, this.#v.forward(normed) as tf.Tensor3D];
      const all =
        prefix === null
          ? { key, value }
          : { key: append(prefix.key, key), value: append(prefix.value, value) };
      const mixed = attention(this.#q.forward(normed), all.key, all.value, {
        heads: this.#heads,
        causal: this.#causal,
      });
      return { h: this.#out.forward(mixed, 'none', { residual: x }) as tf.Tensor3D, ...all };
    });
    const hidden = tf.tidy(() => {
      const inner = this.#fc1.forward(this.#norm2.forward(h), this.#activation);
      return this.#fc2.forward(inner, 'none', { residual: h }) as tf.Tensor3D;
    });
    h.dispose();
    return { hidden, key, value };
  }
}

function append(prefix: tf.Tensor3D, x: tf.Tensor3D): tf.Tensor3D {
  return tf.concat([repeatBatch(prefix, x.shape[0]), x], 1);
}

/** Result of {@link ClipEncoder.forward}. */
export interface EncoderResult {
  /** After the last layer, before any norm [B, S, C]. */
  hidden: tf.Tensor3D;
  /** The input and the result of every layer but the last, when asked for. */
  earlier: tf.Tensor3D[];
  /** Keys and values of every layer, when asked for. */
  keyValues: LayerPrefix[];
}

export interface EncoderOptions {
  readonly prefix?: readonly LayerPrefix[];
  readonly collectHidden?: boolean;
  readonly collectKeyValues?: boolean;
}

/** A stack of layers, registered as `layers.N`. */
export class ClipEncoder extends Module {
  readonly #layers: readonly EncoderLayer[];

  constructor(config: ClipTowerConfig, causal: boolean) {
    super();
    const { num_hidden_layers } = config;
    this.#layers = this.children(
      'layers',
      Array.from({ length: num_hidden_layers }, () => new EncoderLayer(config, causal)),
    );
  }

  /** To be called inside tf.tidy; x [B, S, C] stays the caller's. */
  forward(x: tf.Tensor3D, options: EncoderOptions = {}): EncoderResult {
    const { prefix, collectHidden = false, collectKeyValues = false } = options;
    const earlier: tf.Tensor3D[] = [];
    const keyValues: LayerPrefix[] = [];
    let h = x;
    this.#layers.forEach((layer, index) => {
      const { hidden, key, value } = layer.forward(h, prefix?.[index] ?? null);
      if (collectKeyValues) keyValues.push({ key, value });
      else tf.dispose([key, value]);
      if (collectHidden) earlier.push(h);
      else if (h !== x) h.dispose();
      h = hidden;
    });
    return { hidden: h, earlier, keyValues };
  }
}
