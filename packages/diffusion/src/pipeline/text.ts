/** From prompts to what the denoiser is conditioned on. */
import { invalid } from '@equipoise/core';
import type {
  CLIPTextModel,
  CLIPTextModelWithProjection,
  ClipTextTransformer,
  ClipTokenizer,
  TruncationWarning,
} from '@equipoise/models';
import * as tf from '@tensorflow/tfjs-core';

/** Text embeddings; pooled ones for Stable Diffusion XL only. */
export interface TextEmbeddings {
  /** [P, L, C], a row for each prompt */
  readonly embeds: tf.Tensor3D;
  /** [P, width] */
  readonly pooled?: tf.Tensor2D;
}

export interface EncodeTextOptions {
  /** Layers to leave out at the end of the text encoder. */
  readonly clipSkip?: number | undefined;
  /** Positions, special tokens included. Default: the tokenizer's maximum. */
  readonly maxLength?: number;
  readonly onWarning?: ((warning: TruncationWarning) => void) | undefined;
}

/** A tokenizer with its text encoder. */
export interface TextTower<Model extends CLIPTextModel | CLIPTextModelWithProjection = CLIPTextModel> {
  readonly tokenizer: ClipTokenizer;
  readonly model: Model;
}

function tokenRows(
  tokenizer: ClipTokenizer,
  prompts: readonly string[],
  options: EncodeTextOptions,
): Int32Array[] {
  const { maxLength, onWarning } = options;
  const batch = tokenizer.encodeBatch(prompts, {
    ...(maxLength !== undefined && { maxLength }),
    ...(onWarning !== undefined && { onWarning }),
  });
  return prompts.map((_, i) => batch.ids.subarray(i * batch.length, (i + 1) * batch.length));
}

/** The hidden state `skipped` layers before the last; 0 is the last layer's, before the final norm. */
function hiddenState(
  states: readonly tf.Tensor3D[],
  skipped: number,
  tower: ClipTextTransformer,
): tf.Tensor3D {
  const state = states[states.length - 1 - skipped];
  if (state !== undefined) return state;
  const layers = tower.config.num_hidden_layers;
  throw invalid('clipSkip', `fewer layers than the text encoder's ${layers}`, skipped);
}

/**
 * Stable Diffusion 1.x and 2.x: the states after the final norm; with clipSkip k those of k layers earlier,
 * normed.
 */
export function encodeText(
  { tokenizer, model }: TextTower,
  prompts: readonly string[],
  options: EncodeTextOptions = {},
): TextEmbeddings {
  const ids = tokenRows(tokenizer, prompts, options);
  const { clipSkip } = options;
  const embeds = tf.tidy(() => {
    if (clipSkip === undefined) return model.forward(ids).lastHiddenState;
    const { hiddenStates } = model.forward(ids, { outputHiddenStates: true });
    return model.textModel.finalNorm(hiddenState(hiddenStates, clipSkip, model.textModel));
  });
  return { embeds };
}

/**
 * Stable Diffusion XL: the last but one hidden states of both encoders side by side, without final norm, and
 * the second encoder's projected pooled state. With clipSkip k, k layers earlier still.
 */
export function encodeTextXl(
  first: TextTower,
  second: TextTower<CLIPTextModelWithProjection>,
  prompts: readonly string[],
  options: EncodeTextOptions = {},
): Required<TextEmbeddings> {
  const skipped = 1 + (options.clipSkip ?? 0);
  const firstIds = tokenRows(first.tokenizer, prompts, options);
  // Both tokenizers cut at the same place: one warning is enough.
  const secondIds = tokenRows(second.tokenizer, prompts, { ...options, onWarning: undefined });
  return tf.tidy(() => {
    const a = first.model.forward(firstIds, { outputHiddenStates: true });
    const b = second.model.forward(secondIds, { outputHiddenStates: true });
    const states = [
      hiddenState(a.hiddenStates, skipped, first.model.textModel),
      hiddenState(b.hiddenStates, skipped, second.model.textModel),
    ];
    return { embeds: tf.concat(states, 2), pooled: tf.clone(b.textEmbeds) };
  });
}

/** Each row `count` times in a row: images of one prompt are neighbours. */
export function repeatRows<T extends tf.Tensor>(x: T, count: number): T {
  return tf.tidy(() => {
    const [rows = 0, ...rest] = x.shape;
    const spread = tf.tile(tf.expandDims(x, 1), [1, count, ...rest.map(() => 1)]);
    return tf.reshape(spread, [rows * count, ...rest]) as T;
  });
}
