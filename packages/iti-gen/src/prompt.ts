/**
 * Where inclusive tokens go in a prompt, and the text tower's input around them.
 *
 * Two layouts (`Compat`):
 * - `paper`: the tokens are appended to the prompt like words: position embeddings are added to them, the end token
 *   follows, and the text feature is read at the end token.
 * - `reference` (the published code): the tokens overwrite the embeddings from the end token on, position part
 *   included; no end token follows; the feature is read at the next position, a padding token with id 0.
 */
import { EquipoiseError, invalid, prose } from '@equipoise/core';
import type { ClipTextTransformer, ClipTokenizer, TextPrefix } from '@equipoise/models';
import * as tf from '@tensorflow/tfjs-core';

export const COMPAT = ['paper', 'reference'] as const;
export type Compat = (typeof COMPAT)[number];

/** What is needed of a tokenizer. */
export type PromptTokenizer = Pick<ClipTokenizer, 'encode' | 'bosId' | 'eosId' | 'padId' | 'modelMaxLength'>;

interface TemplateParts {
  /** [1, start, C] */
  readonly before: tf.Tensor3D;
  /** What the slots hold besides the tokens [1, q, C]. */
  readonly slots: tf.Tensor3D;
  /** [1, L - start - q, C], beginning with the position that is read out. */
  readonly after: tf.Tensor3D;
}

/** The constant parts of a prompt's embeddings. Dispose it when done. */
export class PromptTemplate {
  /** First position of the tokens: the prompt's length with its start token, where the plain prompt ends. */
  readonly start: number;

  private constructor(
    readonly prompt: string,
    readonly compat: Compat,
    /** Slots that tokens take. */
    readonly tokens: number,
    private readonly tower: ClipTextTransformer,
    private readonly parts: TemplateParts,
    /** Ids of the plain prompt, padded as the layout wants. */
    readonly plainIds: Int32Array,
  ) {
    this.start = parts.before.shape[1];
  }

  /**
   * @throws EquipoiseError when prompt, tokens and the position read out exceed the text tower's positions
   */
  static create(
    prompt: string,
    tokens: number,
    compat: Compat,
    tower: ClipTextTransformer,
    tokenizer: PromptTokenizer,
  ): PromptTemplate {
    const length = Math.min(tokenizer.modelMaxLength, tower.config.max_position_embeddings);
    const content = tokenizer.encode(prompt);
    const start = content.length + 1;
    // One more position is read out after the tokens.
    const room = length - 2 - tokens;
    if (content.length > room) {
      throw invalid(
        'prompt',
        `at most ${Math.max(0, room)} tokens beside ${tokens} inclusive tokens (the text tower has ${length} positions)`,
        prose(`${content.length} tokens in "${prompt}"`),
      );
    }
    if (content.length === 0) throw invalid('prompt', 'at least one token', prompt);
    const pad = compat === 'reference' ? 0 : tokenizer.padId;
    const plainIds = Int32Array.from({ length }, () => pad);
    plainIds.set([tokenizer.bosId, ...content, tokenizer.eosId]);
    const ids = Int32Array.from({ length }, () => pad);
    ids.set([tokenizer.bosId, ...content]);
    if (compat === 'paper') ids[start + tokens] = tokenizer.eosId;
    const parts = tf.tidy(() => {
      const base = tower.embed([ids]);
      const width = base.shape[2];
      const part = (from: number, count: number): tf.Tensor3D =>
        tf.slice(base, [0, from, 0], [1, count, width]);
      const slots =
        compat === 'paper'
          ? tf.expandDims<tf.Tensor3D>(positions(tower, start, tokens), 0)
          : tf.zeros<tf.Rank.R3>([1, tokens, width]);
      return {
        before: part(0, start),
        slots,
        after: part(start + tokens, length - start - tokens),
      };
    });
    for (const tensor of Object.values(parts)) tf.keep(tensor);
    return new PromptTemplate(prompt, compat, tokens, tower, parts, plainIds);
  }

  /** Keys and values of the prompt before the tokens; constant while tokens are learned. */
  prefix(): TextPrefix {
    return this.tower.prefix(this.parts.before);
  }

  /**
   * The tower's state at the position read out, computed from the prefix and the last q + 1 positions alone: exact,
   * because the tower is causal. Gradients flow to `tokens`.
   *
   * @param tokens the attributes' tokens, joined [N, q, C], with q slots
   * @returns [N, C], after the final norm
   */
  readout(tokens: tf.Tensor3D, prefix: TextPrefix): tf.Tensor2D {
    return tf.tidy(() => {
      const [n, , width] = tokens.shape;
      const read = tf.tile(tf.slice(this.parts.after, [0, 0, 0], [1, 1, width]), [n, 1, 1]);
      const states = this.tower.forwardFrom(
        prefix,
        tf.concat([tf.add(tokens, this.parts.slots), read], 1) as tf.Tensor3D,
      );
      return tf.reshape(tf.slice(states, [0, this.tokens, 0], [n, 1, width]), [n, width]) as tf.Tensor2D;
    });
  }

  /** The same through all positions, without the shortcut: what the shortcut must equal. */
  readoutInFull(tokens: tf.Tensor3D): tf.Tensor2D {
    return tf.tidy(() => {
      const n = tokens.shape[0];
      return this.tower.forwardEmbeddings(
        this.embeddings(tokens),
        new Array<number>(n).fill(this.start + this.tokens),
      ).pooled;
    });
  }

  /** The tower's input for every row of tokens [N, q, C] -> [N, L, C]. */
  embeddings(tokens: tf.Tensor3D): tf.Tensor3D {
    return tf.tidy(() => {
      const n = tokens.shape[0];
      return tf.concat(
        [
          tf.tile(this.parts.before, [n, 1, 1]),
          tf.add(tokens, this.parts.slots),
          tf.tile(this.parts.after, [n, 1, 1]),
        ],
        1,
      ) as tf.Tensor3D;
    });
  }

  /** What a diffusion model is conditioned on: the tower's output for every row of tokens [N, q, C] -> [N, L, C]. */
  promptEmbeddings(tokens: tf.Tensor3D): tf.Tensor3D {
    return tf.tidy(() => {
      const ends = new Array<number>(tokens.shape[0]).fill(this.start + this.tokens);
      return this.tower.forwardEmbeddings(this.embeddings(tokens), ends).lastHiddenState;
    });
  }

  dispose(): void {
    tf.dispose(Object.values(this.parts));
  }
}

function positions(tower: ClipTextTransformer, start: number, count: number): tf.Tensor2D {
  for (const [name, parameter] of tower.namedParameters()) {
    if (name === 'embeddings.position_embedding.weight')
      return tf.slice(parameter.value, [start, 0], [count, tower.config.hidden_size]) as tf.Tensor2D;
  }
  throw new EquipoiseError('internal', 'the text tower has no position embeddings');
}
