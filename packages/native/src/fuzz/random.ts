/** A small seeded generator. Each call of the fuzzer owns one, so that any call can be repeated alone. */

/** splitmix64 over 32-bit halves: every (seed, index) pair gives an unrelated sequence. */
export class FuzzRandom {
  #state: bigint;

  constructor(seed: number, index: number) {
    this.#state = (BigInt(seed) << 32n) ^ (BigInt(index) * 0x9e3779b97f4a7c15n);
  }

  /** Uniform in [0, 2^32). */
  bits(): number {
    this.#state = (this.#state + 0x9e3779b97f4a7c15n) & 0xffffffffffffffffn;
    let z = this.#state;
    z = ((z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n) & 0xffffffffffffffffn;
    z = ((z ^ (z >> 27n)) * 0x94d049bb133111ebn) & 0xffffffffffffffffn;
    return Number((z ^ (z >> 31n)) >> 32n);
  }

  /** Uniform in [0, 1). */
  unit(): number {
    return this.bits() / 2 ** 32;
  }

  /** A whole number from low to high, both included. */
  int(low: number, high: number): number {
    return low + Math.floor(this.unit() * (high - low + 1));
  }

  bool(): boolean {
    return (this.bits() & 1) === 1;
  }

  chance(probability: number): boolean {
    return this.unit() < probability;
  }

  pick<T>(items: readonly T[]): T {
    return items[this.int(0, items.length - 1)] as T;
  }
}
