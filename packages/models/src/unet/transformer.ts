/**
 * The UNet's spatial transformer: self-attention over the image's positions, cross-attention to the text,
 * and a gated feed-forward layer (Rombach et al. 2022, section 3.3).
 */
import { attention, geglu } from '@equipoise/backend';
import * as tf from '@tensorflow/tfjs-core';
import { repeatBatch } from '../batch.js';
import { GroupNorm, LayerNorm, Linear, PointwiseConv } from '../layers.js';
import { Module } from '../module.js';

/** Projected keys and values of one attention layer, each [B, L, C]. */
export type KeyValue = { key: tf.Tensor3D; value: tf.Tensor3D };

export interface AttentionLayerOptions {
  /** Width of queries and results. */
  readonly channels: number;
  /** Width of what is attended to. */
  readonly contextChannels: number;
  readonly heads: number;
}

/** Multi-head attention with its four projections; no bias on queries, keys and values. */
export class AttentionLayer extends Module {
  readonly toQ: Linear;
  readonly toK: Linear;
  readonly toV: Linear;
  readonly toOut: Linear;
  readonly #heads: number;

  constructor({ channels, contextChannels, heads }: AttentionLayerOptions) {
    super();
    this.#heads = heads;
    this.toQ = this.child('to_q', new Linear(channels, channels, { bias: false }));
    this.toK = this.child('to_k', new Linear(contextChannels, channels, { bias: false }));
    this.toV = this.child('to_v', new Linear(contextChannels, channels, { bias: false }));
    this.toOut = this.child('to_out.0', new Linear(channels, channels));
  }

  /** The keys and values of a context [B, L, contextChannels]. */
  keyValue(context: tf.Tensor): KeyValue {
    return { key: this.toK.forward(context) as tf.Tensor3D, value: this.toV.forward(context) as tf.Tensor3D };
  }

  /**
   * x [A, N, C] attends to B contexts; where B is a multiple of A the queries are repeated.
   *
   * @param residual added to the result [A or B, N, C]
   */
  forward(x: tf.Tensor3D, { key, value }: KeyValue, residual: tf.Tensor3D): tf.Tensor3D {
    return tf.tidy(() => {
      const query = repeatBatch(this.toQ.forward(x) as tf.Tensor3D, key.shape[0]);
      const mixed = attention(query, key, value, { heads: this.#heads });
      return this.toOut.forward(mixed, 'none', { residual }) as tf.Tensor3D;
    });
  }
}

/** Linear to 8C, value * gelu(gate), linear back to C. */
class FeedForward extends Module {
  readonly #proj: Linear;
  readonly #out: Linear;

  constructor(channels: number) {
    super();
    this.#proj = this.child('net.0.proj', new Linear(channels, 8 * channels));
    this.#out = this.child('net.2', new Linear(4 * channels, channels));
  }

  /** @param residual added to the result */
  forward(x: tf.Tensor3D, residual: tf.Tensor3D): tf.Tensor3D {
    return tf.tidy(() => {
      const inner = this.#proj.forward(x);
      const gated = geglu(inner);
      inner.dispose();
      return this.#out.forward(gated, 'none', { residual }) as tf.Tensor3D;
    });
  }
}

/** h += attn1(norm1 h); h += attn2(norm2 h, context); h += ff(norm3 h). */
export class BasicTransformerBlock extends Module {
  readonly attn1: AttentionLayer;
  readonly attn2: AttentionLayer;
  readonly #norm1: LayerNorm;
  readonly #norm2: LayerNorm;
  readonly #norm3: LayerNorm;
  readonly #feedForward: FeedForward;

  constructor(channels: number, contextChannels: number, heads: number) {
    super();
    this.#norm1 = this.child('norm1', new LayerNorm(channels, 1e-5));
    this.attn1 = this.child('attn1', new AttentionLayer({ channels, contextChannels: channels, heads }));
    this.#norm2 = this.child('norm2', new LayerNorm(channels, 1e-5));
    this.attn2 = this.child('attn2', new AttentionLayer({ channels, contextChannels, heads }));
    this.#norm3 = this.child('norm3', new LayerNorm(channels, 1e-5));
    this.#feedForward = this.child('ff', new FeedForward(channels));
  }

  forward(h: tf.Tensor3D, context: KeyValue): tf.Tensor3D {
    return tf.tidy(() => {
      const first = tf.tidy(() => {
        const x = this.#norm1.forward(h);
        return this.attn1.forward(x, this.attn1.keyValue(x), h);
      });
      const second = tf.tidy(() => this.attn2.forward(this.#norm2.forward(first), context, first));
      first.dispose();
      return this.#feedForward.forward(this.#norm3.forward(second), second);
    });
  }
}

export interface TransformerOptions {
  readonly channels: number;
  readonly contextChannels: number;
  readonly heads: number;
  readonly layers: number;
  readonly groups: number;
  /** Projections stored as matrices instead of 1x1 convolutions; the computation is the same. */
  readonly linearProjection: boolean;
}

/** norm, projection, transformer blocks over the flattened image, projection, residual. */
export class Transformer2DModel extends Module {
  readonly blocks: readonly BasicTransformerBlock[];
  readonly #norm: GroupNorm;
  readonly #projIn: Linear | PointwiseConv;
  readonly #projOut: Linear | PointwiseConv;

  constructor({ channels, contextChannels, heads, layers, groups, linearProjection }: TransformerOptions) {
    super();
    const projection = () =>
      linearProjection ? new Linear(channels, channels) : new PointwiseConv(channels, channels);
    this.#norm = this.child('norm', new GroupNorm(channels, groups, 1e-6));
    this.#projIn = this.child('proj_in', projection());
    this.blocks = this.children(
      'transformer_blocks',
      Array.from({ length: layers }, () => new BasicTransformerBlock(channels, contextChannels, heads)),
    );
    this.#projOut = this.child('proj_out', projection());
  }

  /**
   * x [A,H,W,C] -> [B,H,W,C] with B the batch of the context.
   *
   * @param context the text [B,L,contextChannels], or its keys and values for each transformer block
   */
  forward(x: tf.Tensor4D, context: tf.Tensor3D | readonly KeyValue[]): tf.Tensor4D {
    return tf.tidy(() => {
      const [batch, height, width, channels] = x.shape;
      let h = tf.tidy(() => {
        const tokens = tf.reshape(this.#norm.forward(x), [batch, height * width, channels]);
        return this.#projIn.forward(tokens) as tf.Tensor3D;
      });
      this.blocks.forEach((block, index) => {
        const next = tf.tidy(() =>
          block.forward(h, context instanceof tf.Tensor ? block.attn2.keyValue(context) : context[index]!),
        );
        h.dispose();
        h = next;
      });
      const residual = tf.reshape(x, [batch, height * width, channels]);
      const out = this.#projOut.forward(h, 'none', { residual });
      h.dispose();
      return tf.reshape(out, [out.shape[0]!, height, width, channels]) as tf.Tensor4D;
    });
  }
}
