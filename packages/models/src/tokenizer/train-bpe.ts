/** Training of a byte-pair vocabulary in CLIP's file format: Sennrich et al. (2016), Algorithm 1. */
import { invalid } from '@equipoise/core';
import { endOfWord } from './bpe.js';
import { toByteCharacters, vocabularyAlphabet } from './byte-characters.js';
import { type Cleaning, hfFast } from './clean.js';

export const startOfText = '<|startoftext|>';
export const endOfText = '<|endoftext|>';

/** A vocabulary as its two files hold it. */
export interface Vocabulary {
  /** Tokens by id: 256 bytes, the same with an end-of-word mark, merges in order, two special tokens. */
  readonly tokens: readonly string[];
  readonly merges: readonly (readonly [string, string])[];
}

export interface TrainBpeOptions {
  /** A pair seen less often is not merged. Default 2. */
  minFrequency?: number;
  cleaning?: Cleaning;
}

/** Tokens present before any merge: two alphabets and two special tokens. */
const fixedTokens = 2 * vocabularyAlphabet.length + 2;

interface Word {
  symbols: number[];
  readonly count: number;
}

function countWords(corpus: Iterable<string>, cleaning: Cleaning): Map<string, number> {
  const counts = new Map<string, number>();
  for (const text of corpus) {
    for (const word of cleaning.split(cleaning.clean(text))) {
      counts.set(word, (counts.get(word) ?? 0) + 1);
    }
  }
  return counts;
}

/** Pair counts over all words, and which words hold each pair; kept up to date merge by merge. */
class PairTable {
  readonly #counts = new Map<number, number>();
  readonly #holders = new Map<number, Set<Word>>();
  readonly #radix: number;

  constructor(words: readonly Word[], radix: number) {
    this.#radix = radix;
    for (const word of words) this.#change(word, 1);
  }

  #change(word: Word, sign: 1 | -1): void {
    for (let i = 1; i < word.symbols.length; i++) {
      const key = (word.symbols[i - 1] as number) * this.#radix + (word.symbols[i] as number);
      this.#counts.set(key, (this.#counts.get(key) ?? 0) + sign * word.count);
      if (sign === 1) {
        const holders = this.#holders.get(key);
        if (holders) holders.add(word);
        else this.#holders.set(key, new Set([word]));
      }
    }
  }

  /** The most frequent pair; among equals the one with the lowest ids, so that training is repeatable. */
  best(minFrequency: number): [number, number] | undefined {
    let bestKey = -1;
    let bestCount = minFrequency - 1;
    for (const [key, count] of this.#counts) {
      if (count > bestCount || (count === bestCount && bestKey >= 0 && key < bestKey)) {
        bestKey = key;
        bestCount = count;
      }
    }
    return bestKey < 0 ? undefined : [Math.floor(bestKey / this.#radix), bestKey % this.#radix];
  }

  merge(left: number, right: number, id: number): void {
    const key = left * this.#radix + right;
    for (const word of this.#holders.get(key) ?? []) {
      this.#change(word, -1);
      word.symbols = mergePair(word.symbols, left, right, id);
      this.#change(word, 1);
    }
    this.#counts.delete(key);
    this.#holders.delete(key);
  }
}

function mergePair(symbols: readonly number[], left: number, right: number, id: number): number[] {
  const out: number[] = [];
  for (let i = 0; i < symbols.length; i++) {
    const joined = symbols[i] === left && symbols[i + 1] === right;
    out.push(joined ? id : (symbols[i] as number));
    if (joined) i++;
  }
  return out;
}

/**
 * Learns merges from a corpus.
 * @param corpus texts; each counts once
 * @param size tokens wanted in all, special ones included: at least 514. Fewer come back when the corpus
 *   runs out of pairs that occur `minFrequency` times.
 */
export function trainBpe(corpus: Iterable<string>, size: number, options: TrainBpeOptions = {}): Vocabulary {
  const { minFrequency = 2, cleaning = hfFast } = options;
  if (!Number.isInteger(size) || size < fixedTokens || size > 2 ** 20) {
    throw invalid('vocabulary size', `an integer from ${fixedTokens} to ${2 ** 20}`, size);
  }
  if (!Number.isInteger(minFrequency) || minFrequency < 1) {
    throw invalid('minFrequency', 'an integer of at least 1', minFrequency);
  }
  const tokens = [...vocabularyAlphabet, ...vocabularyAlphabet.map((character) => character + endOfWord)];
  const ids = new Map(tokens.map((token, id) => [token, id]));
  const words: Word[] = [];
  for (const [text, count] of countWords(corpus, cleaning)) {
    const characters = [...toByteCharacters(text)];
    const last = characters.length - 1;
    const symbols = characters.map((c, i) => ids.get(i === last ? c + endOfWord : c) as number);
    words.push({ symbols, count });
  }
  const table = new PairTable(words, size);
  const merges: [string, string][] = [];
  while (tokens.length < size - 2) {
    const pair = table.best(minFrequency);
    if (!pair) break;
    const [left, right] = [tokens[pair[0]] as string, tokens[pair[1]] as string];
    // Two merge paths can spell the same token: it keeps its first id, and the pair its own rank.
    let id = ids.get(left + right);
    if (id === undefined) {
      id = tokens.push(left + right) - 1;
      ids.set(left + right, id);
    }
    merges.push([left, right]);
    table.merge(pair[0], pair[1], id);
  }
  return { tokens: [...tokens, startOfText, endOfText], merges };
}
