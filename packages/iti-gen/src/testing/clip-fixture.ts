/** A CLIP of three small layers, the fixture of @equipoise/models, with a tokenizer of its own, and pictures to show it. */
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { PhiloxSequence, parseJson, streamId } from '@equipoise/core';
import { encodePng } from '@equipoise/diffusion';
import { CLIPModel, type ClipTokenizer } from '@equipoise/models';
import { fixturesOf } from '@equipoise/testing';
import { openSafetensors, renamed, StateDict } from '@equipoise/weights';
import type { LoadedClip } from '../clip-folder.js';

const FILE = fixturesOf(import.meta.resolve('@equipoise/models')).path('clip.safetensors');
/** Side of the pictures its vision tower sees. */
const SIDE = 12;

/** Loads the model on the current engine. */
export async function loadFixtureClip(): Promise<CLIPModel> {
  await using file = await openSafetensors(FILE);
  const weights = [...file.tensors.values()]
    .filter(({ name }) => name.startsWith('w:'))
    .map((source) => renamed(source, source.name.slice(2)));
  const { config } = parseJson(file.metadata.get('fixture') as string, 'fixture') as { config: unknown };
  return await CLIPModel.load(config, new StateDict(weights, 'clip fixture'));
}

/** The model with a tokenizer that knows words of one letter: a is 1, b is 2, and so on. */
export async function loadFixture(): Promise<LoadedClip> {
  const clip = await loadFixtureClip();
  const length = clip.config.text.max_position_embeddings;
  const encode = (text: string): number[] =>
    text
      .split(' ')
      .filter(Boolean)
      .map((word) => 1 + (((word.codePointAt(0) as number) - 97) % 26));
  const tokenizer = {
    bosId: 61,
    eosId: 62,
    padId: 62,
    modelMaxLength: length,
    encode,
    encodeBatch(texts: readonly string[]) {
      const ids = new Int32Array(texts.length * length).fill(62);
      for (const [i, text] of texts.entries()) ids.set([61, ...encode(text)], i * length);
      return { ids, length };
    },
  };
  return {
    clip,
    tokenizer: tokenizer as unknown as ClipTokenizer,
    preprocess: { shortestEdge: SIDE, crop: SIDE },
    hash: 'fixture',
  };
}

/**
 * Writes `folder/<attribute>/<category>/<n>.png`: noise around a colour of the category's own, so that categories
 * differ in a way that can be learned.
 */
export async function writeFixtureReferences(
  folder: string,
  attributes: Readonly<Record<string, Readonly<Record<string, number>>>>,
): Promise<void> {
  for (const [attribute, categories] of Object.entries(attributes)) {
    for (const [category, count] of Object.entries(categories)) {
      const target = path.join(folder, attribute, category);
      await mkdir(target, { recursive: true });
      const random = new PhiloxSequence(1, streamId('fixture', attribute, category));
      const base = Array.from({ length: 3 }, () => random.uniform() * 200);
      for (let n = 0; n < count; n++) {
        const data = Uint8Array.from(
          { length: SIDE * SIDE * 3 },
          (_, i) => (base[i % 3] as number) + random.uniform() * 50,
        );
        await writeFile(
          path.join(target, `${String(n).padStart(3, '0')}.png`),
          await encodePng({ width: SIDE, height: SIDE, data }),
        );
      }
    }
  }
}
