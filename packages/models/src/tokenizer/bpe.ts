/** Byte-pair encoding: Sennrich, Haddow and Birch (2016), with an end-of-word mark as in CLIP. */
import { invalid } from '@equipoise/core';

/** Appended to the last symbol of every word. */
export const endOfWord = '</w>';

interface Merge {
  readonly rank: number;
  readonly id: number;
}

/** Ids stay below this, so that a pair of them fits in a double exactly. */
const idLimit = 2 ** 26;
/** A heap entry is rank * positionLimit + position: ordered by rank, then from the left. */
const positionLimit = 2 ** 31;
const cacheLimit = 50_000;

/** A min-heap of numbers. */
class Heap {
  readonly #items: number[] = [];

  push(value: number): void {
    const items = this.#items;
    let i = items.push(value) - 1;
    while (i > 0) {
      const parent = (i - 1) >> 1;
      if ((items[parent] as number) <= value) break;
      items[i] = items[parent] as number;
      i = parent;
    }
    items[i] = value;
  }

  pop(): number | undefined {
    const items = this.#items;
    const top = items[0];
    const last = items.pop();
    if (last === undefined || items.length === 0) return top;
    let i = 0;
    for (;;) {
      let child = 2 * i + 1;
      if (child >= items.length) break;
      if (child + 1 < items.length && (items[child + 1] as number) < (items[child] as number)) child++;
      if ((items[child] as number) >= last) break;
      items[i] = items[child] as number;
      i = child;
    }
    items[i] = last;
    return top;
  }
}

/** The vocabulary and merge ranks of a trained encoding; encodes one word at a time. */
export class BytePairEncoding {
  readonly #vocabulary: ReadonlyMap<string, number>;
  readonly #merges = new Map<number, Merge>();
  readonly #unknownId: number;
  readonly #cache = new Map<string, readonly number[]>();

  /**
   * @param vocabulary token to id
   * @param merges pairs of tokens, most urgent first
   * @param unknownId for symbols that the vocabulary lacks
   * @param source names the file in messages
   */
  constructor(
    vocabulary: ReadonlyMap<string, number>,
    merges: readonly (readonly [string, string])[],
    unknownId: number,
    source: string,
  ) {
    this.#vocabulary = vocabulary;
    this.#unknownId = unknownId;
    for (const [rank, [left, right]] of merges.entries()) {
      const [leftId, rightId, id] = [left, right, left + right].map((token) => {
        const found = vocabulary.get(token);
        if (found !== undefined) return found;
        throw invalid(
          `${source}: merge ${rank + 1} (${left} ${right})`,
          `${token} in the vocabulary`,
          undefined,
        );
      }) as [number, number, number];
      const key = leftId * idLimit + rightId;
      if (!this.#merges.has(key)) this.#merges.set(key, { rank, id });
    }
  }

  /**
   * Ids of one word given as byte characters without an end-of-word mark.
   * Time O(n log n) in its length.
   */
  encode(word: string): readonly number[] {
    const known = this.#cache.get(word);
    if (known) return known;
    const ids = this.#merge(this.#symbols(word));
    if (this.#cache.size >= cacheLimit) this.#cache.clear();
    this.#cache.set(word, ids);
    return ids;
  }

  #symbols(word: string): number[] {
    const characters = [...word];
    const last = characters.length - 1;
    return characters.map((character, i) => {
      return this.#vocabulary.get(i === last ? character + endOfWord : character) ?? this.#unknownId;
    });
  }

  #merge(ids: number[]): number[] {
    const count = ids.length;
    const next = Int32Array.from({ length: count }, (_, i) => i + 1);
    const previous = Int32Array.from({ length: count }, (_, i) => i - 1);
    const heap = new Heap();
    const mergeAt = (i: number): Merge | undefined => {
      const j = next[i] as number;
      if (j >= count) return undefined;
      return this.#merges.get((ids[i] as number) * idLimit + (ids[j] as number));
    };
    const offer = (i: number): void => {
      const merge = i >= 0 ? mergeAt(i) : undefined;
      if (merge) heap.push(merge.rank * positionLimit + i);
    };
    for (let i = 0; i < count; i++) offer(i);
    for (let entry = heap.pop(); entry !== undefined; entry = heap.pop()) {
      const i = entry % positionLimit;
      // An entry is stale once either of its symbols has been merged away.
      const merge = ids[i] === -1 ? undefined : mergeAt(i);
      if (merge?.rank !== Math.floor(entry / positionLimit)) continue;
      const gone = next[i] as number;
      const after = next[gone] as number;
      ids[i] = merge.id;
      ids[gone] = -1;
      next[i] = after;
      if (after < count) previous[after] = i;
      offer(previous[i] as number);
      offer(i);
    }
    return ids.filter((id) => id !== -1);
  }
}

/** The largest id a vocabulary may hold. */
export const largestId = idLimit - 1;
