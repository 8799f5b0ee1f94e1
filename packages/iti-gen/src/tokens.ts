/** Inclusive tokens: what ITI-GEN learns, and the files that hold them. */
import { EquipoiseError, invalid, parseJson, prose } from '@equipoise/core';
import { float32Source, openSafetensors, readFloat32, writeSafetensors } from '@equipoise/weights';
import * as tf from '@tensorflow/tfjs-core';
import { combinations } from './attributes.js';
import { COMPAT, type Compat } from './prompt.js';

/**
 * How tokens of several attributes stand in one prompt: `sum` adds them in the same q slots (as published), `concat` puts
 * them side by side, q slots for each attribute.
 */
export const JOINS = ['sum', 'concat'] as const;
export type Join = (typeof JOINS)[number];

/** The tokens of one attribute. */
export interface AttributeTokens {
  readonly name: string;
  readonly categories: readonly string[];
  /** [K, q, C] row-major. */
  readonly values: Float32Array;
}

/** Tokens of one or several attributes that were learned together or are to be used together. */
export interface InclusiveTokens {
  /** Prompt under which they were learned. */
  readonly prompt: string;
  readonly compat: Compat;
  readonly join: Join;
  /** q: tokens per category. */
  readonly length: number;
  /** C: width of the text tower. */
  readonly width: number;
  /** Hash of the CLIP model they belong to. */
  readonly clip: string;
  readonly attributes: readonly AttributeTokens[];
}

const METADATA = 'equipoise_iti_gen';

/** Writes tokens as safetensors: one tensor [K, q, C] per attribute, everything else in the metadata. */
export async function saveTokens(file: string, tokens: InclusiveTokens): Promise<void> {
  const { attributes, ...rest } = tokens;
  const description = JSON.stringify({
    ...rest,
    attributes: attributes.map(({ name, categories }) => ({ name, categories })),
  });
  const tensors = attributes.map(({ name, categories, values }) =>
    float32Source(name, [categories.length, tokens.length, tokens.width], values),
  );
  await writeSafetensors(file, tensors, { metadata: { format: 'pt', [METADATA]: description } });
}

/** @throws EquipoiseError `corrupt` when the file does not hold inclusive tokens */
export async function loadTokens(file: string): Promise<InclusiveTokens> {
  const opened = await openSafetensors(file);
  try {
    const text = opened.metadata.get(METADATA);
    if (text === undefined)
      throw invalid(file, `inclusive tokens (metadata ${METADATA})`, prose('a safetensors file without it'), {
        code: 'corrupt',
      });
    const header = parseJson(text, `${file}: ${METADATA}`) as Omit<InclusiveTokens, 'attributes'> & {
      attributes: Omit<AttributeTokens, 'values'>[];
    };
    if (!COMPAT.includes(header.compat) || !JOINS.includes(header.join) || !Array.isArray(header.attributes))
      throw new EquipoiseError('corrupt', `${file}: ${METADATA} is not what this program writes`);
    const attributes: AttributeTokens[] = [];
    for (const { name, categories } of header.attributes) {
      const source = opened.get(name);
      const expected = [categories.length, header.length, header.width];
      if (source.shape.join() !== expected.join())
        throw invalid(`${file}: ${name}`, `shape [${expected}]`, source.shape, { code: 'corrupt' });
      attributes.push({ name, categories, values: await readFloat32(source) });
    }
    return { ...header, attributes };
  } finally {
    await opened.close();
  }
}

/**
 * Tokens of separately trained attributes in one file.
 *
 * @param join how they stand in a prompt; default that of the first
 * @throws EquipoiseError when they belong to different models or layouts, or share an attribute
 */
export function composeTokens(parts: readonly InclusiveTokens[], join?: Join): InclusiveTokens {
  const [first, ...others] = parts;
  if (first === undefined) throw invalid('tokens', 'at least one file', prose('none'));
  for (const other of others) {
    for (const key of ['clip', 'compat', 'length', 'width'] as const) {
      if (other[key] !== first[key])
        throw invalid(`tokens: ${key}`, `the same for all (${first[key]})`, other[key], { code: 'conflict' });
    }
  }
  const attributes = parts.flatMap((part) => part.attributes);
  const names = attributes.map(({ name }) => name);
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice !== undefined)
    throw invalid('tokens', 'each attribute once', prose(`"${twice}" twice`), { code: 'conflict' });
  return { ...first, join: join ?? first.join, attributes };
}

/** Slots that the tokens of these attributes take in a prompt. */
export function slotCount(attributes: number, length: number, join: Join): number {
  return join === 'sum' ? length : attributes * length;
}

/** The joined tokens of every combination of categories [N, slots, C], first attribute slowest. Differentiable. */
export function joinTokens(perAttribute: readonly tf.Tensor3D[], join: Join): tf.Tensor3D {
  const all = combinations(perAttribute.map((tokens) => tokens.shape[0]));
  return tf.tidy(() => {
    const parts = perAttribute.map((tokens, a) =>
      tf.gather(
        tokens,
        tf.tensor1d(
          all.map((indices) => indices[a] as number),
          'int32',
        ),
      ),
    );
    return join === 'concat'
      ? (tf.concat(parts, 1) as tf.Tensor3D)
      : parts.reduce((sum, part) => tf.add(sum, part));
  });
}

/** The joined tokens of every combination, from a file's tokens. */
export function combinedTokens(tokens: InclusiveTokens): tf.Tensor3D {
  return tf.tidy(() =>
    joinTokens(
      tokens.attributes.map(({ categories, values }) =>
        tf.tensor3d(values, [categories.length, tokens.length, tokens.width]),
      ),
      tokens.join,
    ),
  );
}
