/** The files of a CLIP tokenizer folder: vocab.json + merges.txt, or tokenizer.json. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  EquipoiseError,
  invalid,
  parseJson,
  systemErrorCode,
  writeFileAtomic,
  writeJsonAtomic,
} from '@equipoise/core';
import type { AddedToken } from './added-tokens.js';
import { largestId } from './bpe.js';
import { endOfText, startOfText, type Vocabulary } from './train-bpe.js';

/** Everything that the files say, checked. */
export interface TokenizerFiles {
  readonly vocabulary: ReadonlyMap<string, number>;
  readonly merges: readonly (readonly [string, string])[];
  readonly addedTokens: readonly AddedToken[];
  readonly bosToken: string;
  readonly eosToken: string;
  readonly unkToken: string;
  readonly padToken: string;
  readonly modelMaxLength: number;
  /** The file the vocabulary came from, for messages. */
  readonly source: string;
}

type Json = Record<string, unknown>;

const isObject = (value: unknown): value is Json =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

async function readText(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return undefined;
    throw new EquipoiseError('io', `${path}: cannot be read`, { cause: error });
  }
}

async function readObject(path: string): Promise<Json> {
  const text = await readText(path);
  if (text === undefined) return {};
  const json = parseJson(text, path);
  if (!isObject(json)) throw invalid(path, 'a JSON object', json, { code: 'corrupt' });
  return json;
}

/** Checks a token-to-id table. */
export function parseVocabulary(json: unknown, source: string): Map<string, number> {
  if (!isObject(json)) throw invalid(source, 'an object of token: id', json, { code: 'corrupt' });
  const vocabulary = new Map<string, number>();
  const owners = new Map<number, string>();
  for (const [token, id] of Object.entries(json)) {
    if (!Number.isInteger(id) || (id as number) < 0 || (id as number) > largestId) {
      throw invalid(`${source}: ${JSON.stringify(token)}`, `an id from 0 to ${largestId}`, id, {
        code: 'corrupt',
      });
    }
    const owner = owners.get(id as number);
    if (owner !== undefined) {
      throw invalid(`${source}: ${JSON.stringify(token)}`, `an id of its own`, `${String(id)} of ${owner}`, {
        code: 'corrupt',
      });
    }
    owners.set(id as number, token);
    vocabulary.set(token, id as number);
  }
  return vocabulary;
}

/** Reads merges.txt: an optional version line, then two tokens a line. */
export function parseMerges(text: string, source: string): [string, string][] {
  const merges: [string, string][] = [];
  for (const [i, line] of text.split(/\r?\n/).entries()) {
    if (line === '' || (i === 0 && line.startsWith('#version'))) continue;
    const parts = line.split(' ');
    if (parts.length !== 2 || parts.includes('')) {
      throw invalid(`${source}: line ${i + 1}`, 'two tokens with one space between', line, {
        code: 'corrupt',
      });
    }
    merges.push(parts as [string, string]);
  }
  return merges;
}

function tokenText(value: unknown): string | undefined {
  if (typeof value === 'string') return value;
  if (isObject(value) && typeof value['content'] === 'string') return value['content'];
  return undefined;
}

/** Special tokens that the two config files declare, with CLIP's own as defaults. */
function specialTokens(
  config: Json,
  map: Json,
): Pick<TokenizerFiles, 'bosToken' | 'eosToken' | 'unkToken' | 'padToken'> {
  const pick = (key: string, fallback: string): string =>
    tokenText(config[key]) ?? tokenText(map[key]) ?? fallback;
  return {
    bosToken: pick('bos_token', startOfText),
    eosToken: pick('eos_token', endOfText),
    unkToken: pick('unk_token', endOfText),
    padToken: pick('pad_token', endOfText),
  };
}

function modelMaxLength(config: Json, source: string): number {
  const value = config['model_max_length'] ?? 77;
  if (!Number.isInteger(value) || (value as number) < 2 || (value as number) > 2 ** 20) {
    throw invalid(`${source}: model_max_length`, 'an integer from 2 to 1048576', value);
  }
  return value as number;
}

function addedToken(id: number, entry: unknown, source: string): AddedToken {
  if (!isObject(entry) || typeof entry['content'] !== 'string' || !Number.isInteger(id) || id < 0) {
    throw invalid(`${source}: added token ${id}`, 'an id and an object with "content"', entry, {
      code: 'corrupt',
    });
  }
  if (entry['single_word'] === true) {
    throw new EquipoiseError(
      'unsupported',
      `${source}: added token ${entry['content']}: single_word is not supported`,
    );
  }
  return {
    content: entry['content'],
    id,
    normalized: entry['normalized'] === true,
    lstrip: entry['lstrip'] === true,
    rstrip: entry['rstrip'] === true,
    special: entry['special'] === true,
  };
}

interface Model {
  vocabulary: Map<string, number>;
  merges: [string, string][];
  added: AddedToken[];
  source: string;
}

/** The normalizer and splitter that {@link hfFast} implements; any other is refused. */
function checkTokenizerJson(json: Json, source: string): Json {
  const model = json['model'];
  if (!isObject(model) || model['type'] !== 'BPE' || model['end_of_word_suffix'] !== '</w>') {
    const type = isObject(model)
      ? `${String(model['type'])}, suffix ${String(model['end_of_word_suffix'])}`
      : model;
    throw invalid(`${source}: model`, 'BPE with the end-of-word suffix </w>', type, { code: 'unsupported' });
  }
  const normalizer = json['normalizer'];
  const steps =
    isObject(normalizer) && Array.isArray(normalizer['normalizers']) ? normalizer['normalizers'] : [];
  const kinds = steps.map((step) => (isObject(step) ? String(step['type']) : '?')).join(', ');
  if (kinds !== 'NFC, Replace, Lowercase') {
    throw invalid(`${source}: normalizer`, "CLIP's: NFC, Replace, Lowercase", kinds, { code: 'unsupported' });
  }
  return model;
}

function parseTokenizerJson(text: string, source: string): Model {
  const json = parseJson(text, source);
  if (!isObject(json)) throw invalid(source, 'a JSON object', json, { code: 'corrupt' });
  const model = checkTokenizerJson(json, source);
  const merges = model['merges'];
  if (!Array.isArray(merges))
    throw invalid(`${source}: model.merges`, 'an array', merges, { code: 'corrupt' });
  const lines = merges.map((merge) => (Array.isArray(merge) ? merge.join(' ') : String(merge))).join('\n');
  const added = Array.isArray(json['added_tokens']) ? json['added_tokens'] : [];
  return {
    vocabulary: parseVocabulary(model['vocab'], `${source}: model.vocab`),
    merges: parseMerges(lines, `${source}: model.merges`),
    added: added.map((entry: unknown) =>
      addedToken(isObject(entry) ? Number(entry['id']) : -1, entry, source),
    ),
    source,
  };
}

async function readModel(folder: string): Promise<Model> {
  const [vocab, merges] = [join(folder, 'vocab.json'), join(folder, 'merges.txt')];
  const [vocabText, mergesText] = [await readText(vocab), await readText(merges)];
  if (vocabText !== undefined && mergesText !== undefined) {
    const vocabulary = parseVocabulary(parseJson(vocabText, vocab), vocab);
    return { vocabulary, merges: parseMerges(mergesText, merges), added: [], source: merges };
  }
  const single = join(folder, 'tokenizer.json');
  const text = await readText(single);
  if (text !== undefined) return parseTokenizerJson(text, single);
  throw new EquipoiseError('missing', `${folder}: expected vocab.json and merges.txt, or tokenizer.json`);
}

/** Reads a tokenizer folder as transformers writes it, in either form. */
export async function readTokenizerFiles(folder: string): Promise<TokenizerFiles> {
  const model = await readModel(folder);
  const configPath = join(folder, 'tokenizer_config.json');
  const config = await readObject(configPath);
  const map = await readObject(join(folder, 'special_tokens_map.json'));
  const decoder = isObject(config['added_tokens_decoder']) ? config['added_tokens_decoder'] : {};
  const declared = Object.entries(decoder).map(([id, entry]) => addedToken(Number(id), entry, configPath));
  return {
    vocabulary: model.vocabulary,
    merges: model.merges,
    addedTokens: [...model.added, ...declared],
    ...specialTokens(config, map),
    modelMaxLength: modelMaxLength(config, configPath),
    source: model.source,
  };
}

/** A trained vocabulary as {@link readTokenizerFiles} would give it. */
export function filesOfVocabulary(
  vocabulary: Vocabulary,
  padToken = endOfText,
  modelMaxLength = 77,
): TokenizerFiles {
  return {
    vocabulary: new Map(vocabulary.tokens.map((token, id) => [token, id])),
    merges: vocabulary.merges,
    addedTokens: [],
    bosToken: startOfText,
    eosToken: endOfText,
    unkToken: endOfText,
    padToken,
    modelMaxLength,
    source: 'vocabulary',
  };
}

/**
 * Writes vocab.json, merges.txt, tokenizer_config.json and special_tokens_map.json: the form that every
 * version of transformers reads.
 */
export async function writeTokenizerFiles(folder: string, files: TokenizerFiles): Promise<void> {
  const byId = [...files.vocabulary].sort(([, a], [, b]) => a - b);
  const merges = files.merges.map((pair) => `${pair.join(' ')}\n`).join('');
  const special = {
    bos_token: files.bosToken,
    eos_token: files.eosToken,
    pad_token: files.padToken,
    unk_token: files.unkToken,
  };
  await writeFileAtomic(join(folder, 'vocab.json'), JSON.stringify(Object.fromEntries(byId)));
  await writeFileAtomic(join(folder, 'merges.txt'), `#version: 0.2\n${merges}`);
  await writeJsonAtomic(join(folder, 'special_tokens_map.json'), special, { newline: true });
  const config = {
    ...special,
    add_prefix_space: false,
    clean_up_tokenization_spaces: false,
    do_lower_case: true,
    errors: 'replace',
    model_max_length: files.modelMaxLength,
    tokenizer_class: 'CLIPTokenizer',
  };
  await writeJsonAtomic(join(folder, 'tokenizer_config.json'), config, { newline: true });
}
