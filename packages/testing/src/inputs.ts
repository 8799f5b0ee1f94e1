/** Reproducible inputs. */

/** Whole numbers in [0, 2^32), the same for a seed: a linear congruential generator, so trust the high bits alone. */
export function randomWords(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state;
  };
}

/** `n` odd multiples of 1/256 in (-1, 1): bf16 holds them exactly, so that storage changes nothing but results. */
export function bf16Values(n: number, seed: number): Float32Array {
  const next = randomWords(Math.imul(seed, 2654435761) + 1);
  return Float32Array.from({ length: n }, () => ((next() >>> 16) % 255) / 128 - 0.99609375);
}
