/** Prompt embeddings of every combination of categories: what any pipeline with `prompt_embeds` takes. */
import { invalid, prose } from '@equipoise/core';
import type { CLIPModel } from '@equipoise/models';
import { float32Source, writeSafetensors } from '@equipoise/weights';
import * as tf from '@tensorflow/tfjs-core';
import { combinations } from './attributes.js';
import { PromptTemplate, type PromptTokenizer } from './prompt.js';
import { combinedTokens, type InclusiveTokens, slotCount } from './tokens.js';

export interface Combination {
  /** Category index per attribute. */
  readonly indices: readonly number[];
  /** `{attribute: category}`. */
  readonly labels: Readonly<Record<string, string>>;
}

export interface InclusivePrompts {
  readonly prompt: string;
  readonly combinations: readonly Combination[];
  /** [N, L, C] row-major, in the order of the combinations. */
  readonly embeddings: Float32Array;
  readonly shape: readonly [number, number, number];
}

export function listCombinations({
  attributes,
}: {
  readonly attributes: readonly { readonly name: string; readonly categories: readonly string[] }[];
}): Combination[] {
  return combinations(attributes.map(({ categories }) => categories.length)).map((indices) => ({
    indices,
    labels: Object.fromEntries(
      attributes.map(({ name, categories }, a) => [name, categories[indices[a] as number] as string]),
    ),
  }));
}

/** A prompt with room for these tokens. */
export function tokenTemplate(
  { attributes, length, join, compat }: InclusiveTokens,
  clip: CLIPModel,
  tokenizer: PromptTokenizer,
  prompt: string,
): PromptTemplate {
  const slots = slotCount(attributes.length, length, join);
  return PromptTemplate.create(prompt, slots, compat, clip.textModel, tokenizer);
}

/**
 * Embeddings for all combinations under a prompt: the one the tokens were learned with, or any other ("train once for
 * all").
 *
 * @throws EquipoiseError when the tokens belong to another CLIP or the prompt is too long
 */
export async function inclusivePrompts(
  tokens: InclusiveTokens,
  clip: CLIPModel,
  clipHash: string,
  tokenizer: PromptTokenizer,
  prompt = tokens.prompt,
): Promise<InclusivePrompts> {
  if (tokens.clip !== clipHash) {
    throw invalid(
      'tokens: clip',
      `the CLIP model they were learned with (${tokens.clip.slice(0, 12)})`,
      prose(`another one (${clipHash.slice(0, 12)})`),
      { code: 'conflict' },
    );
  }
  const template = tokenTemplate(tokens, clip, tokenizer, prompt);
  try {
    const result = tf.tidy(() => template.promptEmbeddings(combinedTokens(tokens)));
    const embeddings = Float32Array.from(await result.data());
    const { shape } = result;
    result.dispose();
    return { prompt, combinations: listCombinations(tokens), embeddings, shape };
  } finally {
    template.dispose();
  }
}

/** Writes `prompt_embeds` [N, L, C] with the combinations in the metadata; diffusers takes rows of it as they are. */
export async function savePromptEmbeddings(file: string, prompts: InclusivePrompts): Promise<void> {
  const description = JSON.stringify({
    prompt: prompts.prompt,
    combinations: prompts.combinations.map(({ labels }) => labels),
  });
  await writeSafetensors(file, [float32Source('prompt_embeds', prompts.shape, prompts.embeddings)], {
    metadata: { format: 'pt', equipoise_prompts: description },
  });
}
