/** Tokens matched in the text itself, before it is cut into words: special tokens, and any a user added. */
import { invalid } from '@equipoise/core';
import { unicodeSpace } from './clean.js';

export interface AddedToken {
  readonly content: string;
  readonly id: number;
  /** Matched after cleaning instead of before. */
  readonly normalized: boolean;
  /** Swallow white space on that side. */
  readonly lstrip: boolean;
  readonly rstrip: boolean;
  readonly special: boolean;
}

/** A stretch of ordinary text, or a token. */
export type Piece = string | number;

function escapeRegExp(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&');
}

/** Finds added tokens, leftmost first and the longest among those. */
export class AddedTokenMatcher {
  readonly #pattern: RegExp | undefined;
  readonly #ids: number[];

  constructor(tokens: readonly AddedToken[]) {
    const longestFirst = [...tokens].sort((a, b) => b.content.length - a.content.length);
    this.#ids = longestFirst.map((token) => token.id);
    const space = `[${unicodeSpace}]*`;
    const alternatives = longestFirst.map((token) => {
      if (token.content === '') throw invalid('added token', 'a text of at least one character', '');
      const body = escapeRegExp(token.content);
      return `(${token.lstrip ? space : ''}${body}${token.rstrip ? space : ''})`;
    });
    this.#pattern = alternatives.length > 0 ? new RegExp(alternatives.join('|'), 'gu') : undefined;
  }

  /** The text as stretches and tokens, in order; no empty stretches. */
  split(text: string): Piece[] {
    if (!this.#pattern) return text === '' ? [] : [text];
    const pieces: Piece[] = [];
    let end = 0;
    for (const match of text.matchAll(this.#pattern)) {
      if (match.index > end) pieces.push(text.slice(end, match.index));
      const which = match.findIndex((group, i) => i > 0 && group !== undefined);
      pieces.push(this.#ids[which - 1] as number);
      end = match.index + match[0].length;
    }
    if (end < text.length) pieces.push(text.slice(end));
    return pieces;
  }
}
