/**
 * How text is cleaned and cut into words before byte-pair encoding. The implementations in use differ
 * for curly quotes, entities, ligatures, full-width forms and a few rare characters, and so do the
 * resulting ids: a variant is therefore named, never guessed.
 */
import { fixText } from './fix-text.js';
import { unescapeHtml } from './html-entities.js';

/** White space as Unicode has it (White_Space), which is neither JavaScript's \s nor Python's. */
export const unicodeSpace = '\\t-\\r \\u0085\\u00a0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000';

const spaces = new RegExp(`[${unicodeSpace}]+`, 'gu');
const words = new RegExp(
  `<\\|startoftext\\|>|<\\|endoftext\\|>|'s|'t|'re|'ve|'m|'ll|'d|\\p{L}+|\\p{N}|[^${unicodeSpace}\\p{L}\\p{N}]+`,
  'gu',
);
/** Runs inside one word that byte-level splitting separates; only spelled-out special tokens have any. */
const runs = /\p{L}+|\p{N}+|[^\p{L}\p{N}]+/gu;
const contraction = /^'(?:s|t|re|ve|m|ll|d)$/u;

/** Lower case of each code point apart from its neighbours: a final capital sigma gives U+03C3. */
function lowerEach(text: string): string {
  let out = '';
  for (const character of text) out += character.toLowerCase();
  return out;
}

/** A named way to clean and split text. */
export interface Cleaning {
  readonly name: string;
  /** Applied to each stretch of text between special tokens. */
  clean(text: string): string;
  /** Words of cleaned text, in order. */
  split(text: string): string[];
  /** Whether special tokens are found in the text as it came, before cleaning. */
  readonly specialBefore: boolean;
  /** Whether a word that spells the start or end token, after cleaning, is that token. */
  readonly specialWords: boolean;
}

/**
 * The Rust tokenizer behind transformers (its only one since version 5): NFC, runs of white space to
 * one space, lower case. No repair of mis-decoded text, no HTML entities.
 */
export const hfFast: Cleaning = {
  name: 'hf-fast',
  specialBefore: true,
  specialWords: false,
  clean: (text) => lowerEach(text.normalize('NFC').replace(spaces, ' ')),
  split: (text) =>
    (text.match(words) ?? []).flatMap((word) => (contraction.test(word) ? [word] : (word.match(runs) ?? []))),
};

const wordsAnyCase = new RegExp(words.source, 'giu');

/** Spaces collapsed, ends stripped, lower case: what both older tokenizers end with. */
function collapse(text: string): string {
  return text.replace(spaces, ' ').replace(/^ | $/gu, '').toLowerCase();
}

/**
 * OpenAI's own tokenizer, and OpenCLIP's: ftfy, HTML references decoded twice, spaces collapsed, lower case.
 * Of ftfy everything but the repair of mis-decoded text, see {@link fixText}.
 */
export const openai: Cleaning = {
  name: 'openai',
  specialBefore: false,
  specialWords: true,
  clean: (text) => collapse(unescapeHtml(unescapeHtml(fixText(text)))),
  split: (text) => text.match(wordsAnyCase) ?? [],
};

/**
 * transformers' Python tokenizer (before version 5) where ftfy is installed: ftfy, spaces collapsed, lower
 * case. Of ftfy everything but the repair of mis-decoded text, see {@link fixText}.
 */
export const hfFtfy: Cleaning = {
  ...openai,
  name: 'hf-ftfy',
  specialBefore: true,
  clean: (text) => collapse(fixText(text)),
};
