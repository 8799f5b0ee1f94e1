/** CLIP's tokenizer: Radford et al. (2021), id for id as transformers' CLIPTokenizer. */
import { invalid } from '@equipoise/core';
import { type AddedToken, AddedTokenMatcher } from './added-tokens.js';
import { BytePairEncoding, endOfWord } from './bpe.js';
import { fromByteCharacters, toByteCharacters } from './byte-characters.js';
import { type Cleaning, hfFast, unicodeSpace } from './clean.js';
import { readTokenizerFiles, type TokenizerFiles, writeTokenizerFiles } from './files.js';

/** Told to {@link EncodeBatchOptions.onWarning} when a text did not fit. */
export interface TruncationWarning {
  readonly kind: 'truncated';
  /** Which of the texts. */
  readonly index: number;
  /** Content tokens of the text, and how many were kept. */
  readonly tokens: number;
  readonly kept: number;
  /** What was cut off, decoded. */
  readonly removed: string;
}

export interface EncodeBatchOptions {
  /** Positions of every row, special tokens included. Default: the model's maximum, 77 for CLIP. */
  maxLength?: number;
  onWarning?: (warning: TruncationWarning) => void;
}

/** Padded ids of several texts. */
export interface TokenBatch {
  /** Row-major [count, length]. */
  readonly ids: Int32Array;
  readonly count: number;
  readonly length: number;
}

/** What Python's str.strip removes: Unicode white space and four control characters. */
const outerSpace = new RegExp(`^[${unicodeSpace}\\u001c-\\u001f]+|[${unicodeSpace}\\u001c-\\u001f]+$`, 'gu');

function requireId(files: TokenizerFiles, token: string, role: string): number {
  const id = files.vocabulary.get(token) ?? files.addedTokens.find((added) => added.content === token)?.id;
  if (id !== undefined) return id;
  throw invalid(`${files.source}: ${role} ${JSON.stringify(token)}`, 'a token of the vocabulary', undefined);
}

/** Added tokens in effect: declared ones, and the special ones where not declared. */
function effectiveTokens(files: TokenizerFiles): AddedToken[] {
  const byContent = new Map<string, AddedToken>();
  for (const token of files.addedTokens) byContent.set(token.content, token);
  const special = {
    bos_token: files.bosToken,
    eos_token: files.eosToken,
    unk_token: files.unkToken,
    pad_token: files.padToken,
  };
  for (const [role, content] of Object.entries(special)) {
    if (byContent.has(content)) continue;
    const id = requireId(files, content, role);
    byContent.set(content, { content, id, normalized: false, lstrip: false, rstrip: false, special: true });
  }
  return [...byContent.values()];
}

export class ClipTokenizer {
  readonly bosId: number;
  readonly eosId: number;
  readonly padId: number;
  /** Positions of a full row, special tokens included: 77 for CLIP. */
  readonly modelMaxLength: number;
  readonly #files: TokenizerFiles;
  readonly #cleaning: Cleaning;
  readonly #encoding: BytePairEncoding;
  readonly #before: AddedTokenMatcher;
  readonly #after: AddedTokenMatcher;
  readonly #tokens: Map<number, string>;
  readonly #specialIds: Set<number>;

  constructor(files: TokenizerFiles, cleaning: Cleaning = hfFast) {
    this.#files = files;
    this.#cleaning = cleaning;
    this.bosId = requireId(files, files.bosToken, 'bos_token');
    this.eosId = requireId(files, files.eosToken, 'eos_token');
    this.padId = requireId(files, files.padToken, 'pad_token');
    this.modelMaxLength = files.modelMaxLength;
    const unknownId = requireId(files, files.unkToken, 'unk_token');
    this.#encoding = new BytePairEncoding(files.vocabulary, files.merges, unknownId, files.source);
    const added = effectiveTokens(files);
    this.#before = new AddedTokenMatcher(added.filter((token) => !token.normalized));
    this.#after = new AddedTokenMatcher(
      added
        .filter((token) => token.normalized)
        .map((token) => ({ ...token, content: cleaning.clean(token.content) })),
    );
    this.#tokens = new Map([...files.vocabulary].map(([token, id]) => [id, token]));
    for (const token of added) this.#tokens.set(token.id, token.content);
    this.#specialIds = new Set(added.filter((token) => token.special).map((token) => token.id));
  }

  /** Loads the folder of a model's tokenizer. */
  static async fromFolder(folder: string, cleaning: Cleaning = hfFast): Promise<ClipTokenizer> {
    return new ClipTokenizer(await readTokenizerFiles(folder), cleaning);
  }

  /** Ids in use: one more than the largest. */
  get vocabularySize(): number {
    let largest = -1;
    for (const id of this.#tokens.keys()) largest = Math.max(largest, id);
    return largest + 1;
  }

  /** The name of the cleaning variant in use. */
  get cleaning(): string {
    return this.#cleaning.name;
  }

  /** Ids of a text's content: no start, end or padding, no limit of length. */
  encode(text: string): number[] {
    const ids: number[] = [];
    const pieces = this.#cleaning.specialBefore ? this.#before.split(text) : [text];
    for (const piece of pieces) {
      if (typeof piece === 'number') ids.push(piece);
      else this.#encodeStretch(this.#cleaning.clean(piece), ids);
    }
    return ids;
  }

  #encodeStretch(cleaned: string, ids: number[]): void {
    for (const piece of this.#after.split(cleaned)) {
      if (typeof piece === 'number') {
        ids.push(piece);
        continue;
      }
      for (const word of this.#cleaning.split(piece)) {
        const special = this.#cleaning.specialWords ? this.#wordId(word) : undefined;
        if (special !== undefined) ids.push(special);
        else for (const id of this.#encoding.encode(toByteCharacters(word))) ids.push(id);
      }
    }
  }

  #wordId(word: string): number | undefined {
    if (word === this.#files.bosToken) return this.bosId;
    return word === this.#files.eosToken ? this.eosId : undefined;
  }

  /**
   * Rows for a text encoder: start token, content, end token, padding. A text that is too long loses its
   * end and keeps the end token; `onWarning` hears of it.
   */
  encodeBatch(texts: readonly string[], options: EncodeBatchOptions = {}): TokenBatch {
    const { maxLength = this.modelMaxLength, onWarning } = options;
    if (!Number.isInteger(maxLength) || maxLength < 2) {
      throw invalid('maxLength', 'an integer of at least 2', maxLength);
    }
    const ids = new Int32Array(texts.length * maxLength).fill(this.padId);
    for (const [index, text] of texts.entries()) {
      const content = this.encode(text);
      const kept = Math.min(content.length, maxLength - 2);
      if (kept < content.length) {
        const removed = this.decode(content.slice(kept));
        onWarning?.({ kind: 'truncated', index, tokens: content.length, kept, removed });
      }
      ids.set([this.bosId, ...content.slice(0, kept), this.eosId], index * maxLength);
    }
    return { ids, count: texts.length, length: maxLength };
  }

  /** The token with an id. */
  token(id: number): string {
    const token = this.#tokens.get(id);
    if (token === undefined) throw invalid('token id', `an id of the vocabulary`, id);
    return token;
  }

  /**
   * Text of ids: words apart by one space, lower case as they were encoded. Malformed UTF-8 (a character
   * cut in two) becomes U+FFFD.
   */
  decode(ids: Iterable<number>, options: { skipSpecial?: boolean } = {}): string {
    const skip = options.skipSpecial ?? false;
    const tokens = Array.from(ids)
      .filter((id) => !(skip && this.#specialIds.has(id)))
      .map((id) => this.token(id));
    // Every token's characters are byte characters, those of the marks </w> and <|endoftext|> included.
    return fromByteCharacters(tokens.join('')).replaceAll(endOfWord, ' ').replace(outerSpace, '');
  }

  /** Writes the tokenizer's files into an existing folder; see {@link writeTokenizerFiles}. */
  async save(folder: string): Promise<void> {
    await writeTokenizerFiles(folder, this.#files);
  }
}
