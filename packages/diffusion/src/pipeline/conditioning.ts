/** From what a call asks for to the conditioning of every image. */
import { invalid, prose } from '@equipoise/core';
import * as tf from '@tensorflow/tfjs-core';
import type { Conditioning } from './denoise.js';
import type { GenerateHooks, GenerateInputs, PipelineParts } from './inputs.js';
import type { SamplingOptions } from './options.js';
import { type EncodeTextOptions, encodeText, encodeTextXl, repeatRows, type TextEmbeddings } from './text.js';

/** Both sides of the conditioning before images are counted: a row for each prompt. */
interface Sides {
  readonly cond: TextEmbeddings;
  readonly uncond: TextEmbeddings | null;
}

/** Encodes prompts as the denoiser wants them: a row for each. */
export function encodePrompts(
  parts: PipelineParts,
  prompts: readonly string[],
  options: EncodeTextOptions = {},
): TextEmbeddings {
  const { tokenizer, textEncoder, tokenizer2, textEncoder2 } = parts;
  const first = { tokenizer, model: textEncoder };
  if (textEncoder2 === undefined || tokenizer2 === undefined) return encodeText(first, prompts, options);
  return encodeTextXl(first, { tokenizer: tokenizer2, model: textEncoder2 }, prompts, options);
}

/**
 * Encodes what a call asks for. Negative prompts never skip layers, as in diffusers.
 *
 * @param guided whether an unconditional side is needed
 */
export function encodeSides(
  parts: PipelineParts,
  inputs: GenerateInputs,
  guided: boolean,
  options: SamplingOptions,
  { onWarning }: GenerateHooks,
): Sides {
  const cond = encodeCond(parts, inputs, options, onWarning);
  if (!guided) return { cond, uncond: null };
  const rows = cond.embeds.shape[0];
  const { negativePrompt, negativePromptEmbeds, negativePooledPromptEmbeds } = inputs;
  if (negativePromptEmbeds !== undefined) {
    const uncond = given(
      parts,
      'negativePromptEmbeds',
      negativePromptEmbeds,
      negativePooledPromptEmbeds,
      cond,
    );
    return { cond, uncond };
  }
  if (negativePrompt === undefined && zerosForEmpty(parts)) {
    const uncond = { embeds: tf.zerosLike(cond.embeds), pooled: tf.zerosLike(cond.pooled as tf.Tensor2D) };
    return { cond, uncond };
  }
  const texts =
    typeof negativePrompt === 'object' ? negativePrompt : Array<string>(rows).fill(negativePrompt ?? '');
  if (texts.length !== rows)
    throw invalid('negativePrompt', `${rows} texts, one for each prompt`, texts.length);
  const positions = cond.embeds.shape[1];
  const most = parts.textEncoder.config.max_position_embeddings;
  if (positions > most) {
    const expected = `at most ${most} positions, or embeddings of the negative prompt too`;
    throw invalid('promptEmbeds', expected, positions);
  }
  return { cond, uncond: encodePrompts(parts, texts, { maxLength: positions, onWarning }) };
}

export function disposeSides({ cond, uncond }: Sides): void {
  for (const side of [cond, uncond]) tf.dispose([side?.embeds, side?.pooled].filter((x) => x !== undefined));
}

/** Whether a missing negative prompt means zeros (Stable Diffusion XL base) or the empty text. */
function zerosForEmpty(parts: PipelineParts): boolean {
  return parts.textEncoder2 !== undefined && parts.settings?.['force_zeros_for_empty_prompt'] !== false;
}

function encodeCond(
  parts: PipelineParts,
  inputs: GenerateInputs,
  options: SamplingOptions,
  onWarning: GenerateHooks['onWarning'],
): TextEmbeddings {
  const { prompt, promptEmbeds, pooledPromptEmbeds } = inputs;
  if ((prompt === undefined) === (promptEmbeds === undefined)) {
    throw invalid(
      'prompt',
      'either prompts or promptEmbeds',
      prose(prompt === undefined ? 'neither' : 'both'),
    );
  }
  if (promptEmbeds !== undefined) return given(parts, 'promptEmbeds', promptEmbeds, pooledPromptEmbeds);
  const texts = typeof prompt === 'string' ? [prompt] : (prompt as readonly string[]);
  if (texts.length === 0) throw invalid('prompt', 'at least one prompt', texts);
  return encodePrompts(parts, texts, { clipSkip: options.clipSkip, onWarning });
}

/** Checks embeddings that the caller made, and copies the handles so that they can be freed alike. */
function given(
  parts: PipelineParts,
  name: 'promptEmbeds' | 'negativePromptEmbeds',
  embeds: tf.Tensor3D,
  pooled: tf.Tensor2D | undefined,
  like?: TextEmbeddings,
): TextEmbeddings {
  const width = parts.unet.config.cross_attention_dim;
  if (embeds.rank !== 3 || embeds.shape[2] !== width || embeds.size === 0) {
    throw invalid(name, `[prompts, positions, ${width}]`, embeds.shape);
  }
  const [rows, positions] = embeds.shape;
  if (like !== undefined && (rows !== like.embeds.shape[0] || positions !== like.embeds.shape[1])) {
    const shape = like.embeds.shape.join(', ');
    throw invalid(name, `the shape of the prompts' embeddings, [${shape}]`, embeds.shape);
  }
  if (parts.textEncoder2 === undefined) return { embeds: tf.clone(embeds) };
  if (pooled === undefined || pooled.shape[0] !== rows) {
    const pooledName = name === 'promptEmbeds' ? 'pooledPromptEmbeds' : 'negativePooledPromptEmbeds';
    const expected = `[${rows}, width], which Stable Diffusion XL needs beside ${name}`;
    throw invalid(pooledName, expected, pooled?.shape);
  }
  return { embeds: tf.clone(embeds), pooled: tf.clone(pooled) };
}

/** The conditioning of every image, from rows for each prompt; `height` and `width` in pixels. */
export function conditionImages(
  { cond, uncond }: Sides,
  perPrompt: number,
  height: number,
  width: number,
): Conditioning {
  const count = cond.embeds.shape[0] * perPrompt;
  const spread = <T extends tf.Tensor>(x: T): T => repeatRows(x, perPrompt);
  const promptIndex = Array.from({ length: count }, (_, i) => Math.floor(i / perPrompt));
  const base = { cond: spread(cond.embeds), uncond: uncond && spread(uncond.embeds), promptIndex };
  if (cond.pooled === undefined) return base;
  // Original size, crop corner and target size: the image is asked for whole, at its own size.
  const ids = [height, width, 0, 0, height, width];
  return {
    ...base,
    added: {
      cond: spread(cond.pooled),
      uncond: uncond && spread(uncond.pooled as tf.Tensor2D),
      timeIds: Array.from({ length: count }, () => ids),
    },
  };
}

export function disposeConditioning({ cond, uncond, added }: Conditioning): void {
  for (const tensor of [cond, uncond, added?.cond, added?.uncond]) tensor?.dispose();
}
