/**
 * CLIP's text tower: `CLIPTextModel` and `CLIPTextModelWithProjection`, with transformers' names and numbers.
 */
import { toStorage } from '@equipoise/backend';
import { invalid } from '@equipoise/core';
import * as tf from '@tensorflow/tfjs-core';
import { ConfiguredModel } from '../configured-model.js';
import { Embedding, LayerNorm, Linear } from '../layers.js';
import type { KeyRules } from '../model.js';
import { Module } from '../module.js';
import type { StateDict } from '../state-dict.js';
import { type ClipTextConfig, parseClipTextConfig } from './config.js';
import { ClipEncoder, type LayerPrefix } from './encoder.js';

export type ClipTextOutput = {
  /** After the final norm [B, L, C]: what Stable Diffusion 1.x and 2.x are conditioned on. */
  lastHiddenState: tf.Tensor3D;
  /** {@link lastHiddenState} at the end of each text [B, C]. */
  pooled: tf.Tensor2D;
  /**
   * Embeddings and the result of every layer, none normed, layers + 1 of them; empty unless asked for. Stable
   * Diffusion XL is conditioned on the last but one.
   */
  hiddenStates: tf.Tensor3D[];
};

export interface ClipTextOptions {
  readonly outputHiddenStates?: boolean;
}

/** Keys and values of a constant beginning, for {@link ClipTextTransformer.forwardFrom}. */
export class TextPrefix {
  constructor(
    readonly layers: readonly LayerPrefix[],
    /** Number of positions. */
    readonly length: number,
  ) {}

  dispose(): void {
    for (const { key, value } of this.layers) tf.dispose([key, value]);
  }
}

/** The tower itself, registered as `text_model`. */
export class ClipTextTransformer extends Module {
  readonly #tokens: Embedding;
  readonly #positions: Embedding;
  readonly #encoder: ClipEncoder;
  readonly #norm: LayerNorm;

  constructor(readonly config: ClipTextConfig) {
    super();
    const { vocab_size, hidden_size: width, max_position_embeddings, layer_norm_eps } = config;
    const std = { kind: 'normal', std: 0.02 } as const;
    this.#tokens = this.child('embeddings.token_embedding', new Embedding(vocab_size, width, std));
    this.#positions = this.child(
      'embeddings.position_embedding',
      new Embedding(max_position_embeddings, width, std),
    );
    this.#encoder = this.child('encoder', new ClipEncoder(config, true));
    this.#norm = this.child('final_layer_norm', new LayerNorm(width, layer_norm_eps));
  }

  /** Token plus position embeddings of texts of equal length: [B, L, C]. */
  embed(ids: readonly ArrayLike<number>[]): tf.Tensor3D {
    const length = this.#checkIds(ids);
    return tf.tidy(() => {
      const flat = tf.tensor2d(
        Int32Array.from(ids.flatMap((row) => Array.from(row))),
        [ids.length, length],
        'int32',
      );
      const positions = tf.slice(this.#positions.weight.value, [0, 0], [length, this.config.hidden_size]);
      // The sum every layer adds to is kept in f32: rounding it after each would cost more than all else together.
      return tf.add(toStorage(this.#tokens.forward(flat), 'f32'), positions) as tf.Tensor3D;
    });
  }

  /** The whole tower on token ids, padded to one length. */
  forward(ids: readonly ArrayLike<number>[], options: ClipTextOptions = {}): ClipTextOutput {
    const ends = ids.map((row) => this.endOfText(row));
    return tf.tidy(() => this.forwardEmbeddings(this.embed(ids), ends, options));
  }

  /**
   * The tower on embeddings (position part included), which may be anything; gradients flow to them.
   *
   * @param embeddings [B, L, C]
   * @param ends position in each text whose state becomes the pooled output
   */
  forwardEmbeddings(
    embeddings: tf.Tensor3D,
    ends: readonly number[],
    { outputHiddenStates = false }: ClipTextOptions = {},
  ): ClipTextOutput {
    this.#checkEmbeddings(embeddings, 0);
    return tf.tidy(() => {
      const { hidden, earlier } = this.#encoder.forward(embeddings, { collectHidden: outputHiddenStates });
      const lastHiddenState = this.#norm.forward(hidden);
      // Cloned, because the first of them is the caller's tensor.
      const hiddenStates = outputHiddenStates ? [...earlier, hidden].map((state) => tf.clone(state)) : [];
      return { lastHiddenState, pooled: takePositions(lastHiddenState, ends), hiddenStates };
    });
  }

  /**
   * Runs the tower over a constant beginning once. Attention is causal, so what follows cannot change it, and
   * {@link forwardFrom} computes what follows alone: exact, and as much cheaper as the beginning is long. No
   * gradient flows into it.
   *
   * @param embeddings [1 or B, P, C]
   */
  prefix(embeddings: tf.Tensor3D): TextPrefix {
    this.#checkEmbeddings(embeddings, 0);
    const layers = tf.tidy(() => {
      const { keyValues } = this.#encoder.forward(embeddings, { collectKeyValues: true });
      return keyValues;
    });
    for (const { key, value } of layers) {
      tf.keep(key);
      tf.keep(value);
    }
    return new TextPrefix(layers, embeddings.shape[1]);
  }

  /**
   * The states after the final norm of the positions that follow a prefix; gradients flow to `embeddings`.
   *
   * @param embeddings [B, S, C] for the positions from `prefix.length` on
   * @returns [B, S, C]: what {@link forwardEmbeddings} gives at those positions
   */
  forwardFrom(prefix: TextPrefix, embeddings: tf.Tensor3D): tf.Tensor3D {
    this.#checkEmbeddings(embeddings, prefix.length);
    return tf.tidy(() =>
      this.#norm.forward(this.#encoder.forward(embeddings, { prefix: prefix.layers }).hidden),
    );
  }

  /** The final norm alone, for states of an earlier layer ("clip skip"). */
  finalNorm(hidden: tf.Tensor3D): tf.Tensor3D {
    return this.#norm.forward(hidden);
  }

  /** Where a text ends: the position of its first end token; of its largest id where the config says 2. */
  endOfText(ids: ArrayLike<number>): number {
    const row = Array.from(ids);
    if (this.config.eos_token_id === 2) return row.indexOf(Math.max(...row));
    const end = row.indexOf(this.config.eos_token_id);
    // The reference takes the argmax of "is the end token", which is 0 when there is none.
    return Math.max(0, end);
  }

  #checkIds(ids: readonly ArrayLike<number>[]): number {
    const length = ids[0]?.length ?? 0;
    const most = this.config.max_position_embeddings;
    if (length === 0 || length > most) throw invalid('ids', `texts of 1 to ${most} tokens`, length);
    for (const row of ids) {
      if (row.length !== length) throw invalid('ids', `texts of one length (${length})`, row.length);
      for (let i = 0; i < length; i++) {
        const id = row[i]!;
        if (!Number.isInteger(id) || id < 0 || id >= this.config.vocab_size) {
          throw invalid('ids', `integers from 0 to ${this.config.vocab_size - 1}`, id);
        }
      }
    }
    return length;
  }

  #checkEmbeddings(embeddings: tf.Tensor3D, start: number): void {
    const { hidden_size: width, max_position_embeddings: most } = this.config;
    const fits = embeddings.rank === 3 && embeddings.shape[2] === width && embeddings.size > 0;
    if (!fits || start + embeddings.shape[1] > most) {
      throw invalid('embeddings', `[B, L, ${width}] with L at most ${most - start}`, embeddings.shape);
    }
  }
}

/** x [B, L, C] at one position per row: [B, C]. */
export function takePositions(x: tf.Tensor3D, positions: readonly number[]): tf.Tensor2D {
  const [batch, length, width] = x.shape;
  if (positions.length !== batch || !positions.every((p) => Number.isInteger(p) && p >= 0 && p < length)) {
    throw invalid('positions', `${batch} integers from 0 to ${length - 1}`, positions);
  }
  return tf.tidy(() => {
    const rows = tf.tensor1d(
      positions.map((position, row) => row * length + position),
      'int32',
    );
    return tf.gather(tf.reshape(x, [batch * length, width]) as tf.Tensor2D, rows);
  });
}

/**
 * Where a tower's keys are in a checkpoint. transformers 5 drops the prefix of towers saved on their own; what we
 * write always has it, which every version reads. A file of a whole `CLIPModel` holds the other tower too.
 *
 * @param prefix `text_model.` or `vision_model.`
 * @param probe a key of the tower, without the prefix
 */
export function towerKeys(state: StateDict, prefix: string, probe: string): KeyRules {
  const bare = state.has(probe) && !state.has(prefix + probe);
  return {
    rename: (name) => (bare && name.startsWith(prefix) ? name.slice(prefix.length) : name),
    ignore: state.has('logit_scale')
      ? [/^(text|vision)_model\./, /^(text|visual)_projection\./, /^logit_scale$/]
      : [],
  };
}

export class CLIPTextModel extends ConfiguredModel<ClipTextConfig> {
  readonly textModel: ClipTextTransformer;

  /** The architecture without weights, from a `config.json` of transformers. */
  constructor(config: unknown, where?: string) {
    super(parseClipTextConfig(config, where));
    this.textModel = this.child('text_model', new ClipTextTransformer(this.config));
  }

  override keyRules(state: StateDict): KeyRules {
    return towerKeys(state, 'text_model.', 'final_layer_norm.weight');
  }

  /** See {@link ClipTextTransformer.forward}. */
  forward(ids: readonly ArrayLike<number>[], options?: ClipTextOptions): ClipTextOutput {
    return this.textModel.forward(ids, options);
  }
}

/** {@link ClipTextOutput} with the pooled output projected into the space shared with images. */
export type ClipTextProjectedOutput = ClipTextOutput & { textEmbeds: tf.Tensor2D };

export class CLIPTextModelWithProjection extends ConfiguredModel<ClipTextConfig> {
  readonly textModel: ClipTextTransformer;
  readonly textProjection: Linear;

  /** The architecture without weights, from a `config.json` of transformers. */
  constructor(config: unknown, where?: string) {
    super(parseClipTextConfig(config, where));
    const { hidden_size, projection_dim } = this.config;
    this.textModel = this.child('text_model', new ClipTextTransformer(this.config));
    this.textProjection = this.child('text_projection', featureProjection(hidden_size, projection_dim));
  }

  override keyRules(state: StateDict): KeyRules {
    return towerKeys(state, 'text_model.', 'final_layer_norm.weight');
  }

  /** See {@link ClipTextTransformer.forward}. */
  forward(ids: readonly ArrayLike<number>[], options?: ClipTextOptions): ClipTextProjectedOutput {
    return tf.tidy(() => {
      const output = this.textModel.forward(ids, options);
      return { ...output, textEmbeds: this.textProjection.forward(output.pooled) as tf.Tensor2D };
    });
  }
}

/** A projection without bias into the space shared by texts and images. */
export function featureProjection(from: number, to: number): Linear {
  return new Linear(from, to, { bias: false, weightInitializer: { kind: 'normal', std: from ** -0.5 } });
}
