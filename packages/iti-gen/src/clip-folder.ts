/** CLIP from a folder of transformers, with its tokenizer and preprocessing. */
import fs from 'node:fs/promises';
import path from 'node:path';
import { EquipoiseError, invalid, parseJson, prose } from '@equipoise/core';
import {
  CLIPModel,
  type ClipPreprocessOptions,
  ClipTokenizer,
  type Model,
  parsePreprocessorConfig,
} from '@equipoise/models';
import { hashFolder, openFolder } from '@equipoise/weights';

export interface LoadedClip {
  readonly clip: CLIPModel;
  readonly tokenizer: ClipTokenizer;
  readonly preprocess: ClipPreprocessOptions;
  /** Of the weights and config: identifies the model in caches and files. */
  readonly hash: string;
}

export interface ClipFolders {
  /** Folder of the tokenizer to use, whatever lies in the CLIP folder. */
  readonly tokenizer?: string | undefined;
  /** Folder of the tokenizer where the CLIP folder has none, as in pipelines. */
  readonly otherwise?: string;
}

/** Loads a `CLIPModel` folder: `config.json`, `model.safetensors`, tokenizer files, `preprocessor_config.json`. */
export async function loadClip(
  folder: string,
  { tokenizer: given, otherwise }: ClipFolders = {},
): Promise<LoadedClip> {
  const component = await (await openFolder(folder)).component('clip');
  const { config, where } = component.modelConfig();
  const state = await component.openWeights();
  let clip: CLIPModel;
  try {
    clip = await CLIPModel.load(config, state, { storage: 'f32', where });
  } finally {
    await state.close();
  }
  const own = await exists(path.join(folder, 'vocab.json'), path.join(folder, 'tokenizer.json'));
  const source = given ?? (own ? folder : otherwise);
  if (source === undefined)
    throw new EquipoiseError(
      'missing',
      `${folder}: expected tokenizer files (vocab.json and merges.txt, or tokenizer.json), got none`,
    );
  const tokenizer = await ClipTokenizer.fromFolder(source);
  if (tokenizer.vocabularySize > clip.config.text.vocab_size) {
    throw invalid(
      `${source}: tokenizer`,
      `at most ${clip.config.text.vocab_size} tokens, as the text tower has`,
      tokenizer.vocabularySize,
      { code: 'conflict' },
    );
  }
  return {
    clip,
    tokenizer,
    preprocess: await readPreprocessing(folder, clip),
    hash: await hashFolder(folder),
  };
}

async function exists(...files: string[]): Promise<boolean> {
  const found = await Promise.all(
    files.map((file) =>
      fs.stat(file).then(
        () => true,
        () => false,
      ),
    ),
  );
  return found.includes(true);
}

async function readPreprocessing(folder: string, clip: CLIPModel): Promise<ClipPreprocessOptions> {
  const file = path.join(folder, 'preprocessor_config.json');
  const size = clip.config.vision.image_size;
  if (!(await exists(file))) return { shortestEdge: size, crop: size };
  const options = parsePreprocessorConfig(parseJson(await fs.readFile(file, 'utf8'), file), file);
  if (options.crop !== size)
    throw invalid(`${file}: crop_size`, `the vision tower's ${size}`, options.crop, { code: 'conflict' });
  return options;
}

/**
 * Inclusive tokens live in the space of CLIP's text tower; a diffusion model understands them only if its text
 * encoder is that tower.
 *
 * @throws EquipoiseError `conflict` naming the first weight that differs
 */
export async function requireSameTextTower(clip: CLIPModel, textEncoder: Model): Promise<void> {
  const ours = new Map([...clip.namedParameters()].filter(([name]) => name.startsWith('text_model.')));
  const theirs = new Map(
    [...textEncoder.namedParameters()].filter(([name]) => name.startsWith('text_model.')),
  );
  for (const [name, parameter] of ours) {
    const other = theirs.get(name);
    if (other === undefined || other.shape.join() !== parameter.shape.join()) {
      throw differs(name, `[${parameter.shape}]`, other === undefined ? 'none' : `[${other.shape}]`);
    }
  }
  const extra = [...theirs.keys()].find((name) => !ours.has(name));
  if (extra !== undefined) throw differs(extra, 'no such weight', `[${theirs.get(extra)?.shape}]`);
  // Vectors suffice to tell trained towers apart, and cost nothing to read.
  for (const [name, parameter] of ours) {
    if (parameter.shape.length !== 1) continue;
    const [a, b] = await Promise.all([
      parameter.value.data(),
      (theirs.get(name) as typeof parameter).value.data(),
    ]);
    const worst = Float32Array.from(a, (value, i) => Math.abs(value - (b[i] as number))).reduce(
      (max, value) => Math.max(max, value),
      0,
    );
    if (worst > 1e-2)
      throw differs(
        name,
        "the pipeline's text encoder to hold the same numbers",
        `a difference of ${worst.toPrecision(3)}`,
      );
  }
}

function differs(name: string, expected: string, actual: string): EquipoiseError {
  return invalid(`CLIP and the pipeline's text encoder: ${name}`, expected, prose(actual), {
    code: 'conflict',
    hints: ['Learn the tokens with the CLIP model whose text tower the pipeline uses.'],
  });
}
