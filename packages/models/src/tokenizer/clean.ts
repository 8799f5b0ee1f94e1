/**
 * How text is cleaned and cut into words before byte-pair encoding. The implementations in use differ
 * for curly quotes, entities, ligatures, full-width forms and a few rare characters, and so do the
 * resulting ids: a variant is therefore named, never guessed.
 */

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
}

/**
 * The Rust tokenizer behind transformers (its only one since version 5): NFC, runs of white space to
 * one space, lower case. No repair of mis-decoded text, no HTML entities.
 */
export const hfFast: Cleaning = {
  name: 'hf-fast',
  clean: (text) => lowerEach(text.normalize('NFC').replace(spaces, ' ')),
  split: (text) =>
    (text.match(words) ?? []).flatMap((word) => (contraction.test(word) ? [word] : (word.match(runs) ?? []))),
};
